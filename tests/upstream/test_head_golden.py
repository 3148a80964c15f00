"""The head gives the numbers of the official code, from position embeddings to gradients.

pytest tests/upstream --golden-dir DIR

Recomputing the goldens in float64 moves them by about 2e-6 of each tensor's largest value.
"""

from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from shared.model.box_coder import Detections, decode_boxes
from shared.model.denoising import DenoisingQueries, make_denoising_queries
from shared.model.head import CmtHead
from shared.model.losses import detection_losses, total_loss
from shared.model.matcher import Matches, match, matching_cost
from shared.model.outputs import HeadOutputs
from shared.model.positions import CameraGeometry, invert_cameras

FORWARD = 1e-5  # of the largest value in the tensor; float32 noise, measured 2e-6
LOSS = 1e-5  # relative
GRADIENT = 1e-4  # of the largest value; noise adds up over 6e5 terms, measured 1e-5
# A gradient that is truly zero comes out as noise of this size, relative to the norm of all.
ZERO_GRADIENT = 1e-7
BRANCHES = ("center", "height", "dim", "rot", "vel", "cls_logits")


def assert_same(ours: Tensor, official: Tensor, tolerance: float = FORWARD) -> None:
    """Compare with a tolerance relative to the largest official value."""
    assert ours.shape == official.shape
    atol = tolerance * official.abs().max().item() if official.numel() else 0.0
    torch.testing.assert_close(ours.detach(), official, rtol=0, atol=atol)


@dataclass
class Evaluated:
    """One evaluation pass, with what happens inside."""

    head: CmtHead
    cameras: CameraGeometry
    outputs: HeadOutputs
    bev: Tensor
    layers: list[Tensor]
    decoded: Tensor


@dataclass
class Trained:
    """One training pass with denoising queries, losses and gradients."""

    outputs: HeadOutputs
    query_positions: Tensor
    decoded: Tensor
    denoising: DenoisingQueries
    matches: Matches
    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]


def run(golden, head: CmtHead, denoising=None, *, bev=None, camera=None) -> HeadOutputs:
    bev = golden.bev if bev is None else bev
    camera = golden.camera if camera is None else camera
    return head(bev, camera, golden.img_from_lidar, denoising)


def record(module: torch.nn.Module, into: list[Tensor]) -> None:
    module.register_forward_hook(lambda _module, _inputs, output: into.append(output))


@pytest.fixture(scope="module")
def evaluated(head) -> Evaluated:
    module, bev, layers, decoded = head.build(), [], [], []
    record(module.shared_conv, bev)
    for layer in module.transformer["decoder"].layers:
        record(layer, layers)
    record(module.transformer["decoder"], decoded)
    with torch.no_grad():
        outputs = run(head, module)
    cameras = invert_cameras(
        head.img_from_lidar,
        height_px=head.height_px,
        width_px=head.width_px,
        dtype=torch.float32,
    )
    return Evaluated(module, cameras, outputs, bev[0], layers, decoded[0])


@pytest.fixture(scope="module")
def trained(head) -> Trained:
    module = head.build()
    boxes, labels = head.ground_truth()
    denoising = head.denoising(boxes, labels, "train")
    decoded, positions = [], []
    decoder = module.transformer["decoder"]
    record(decoder, decoded)
    decoder.register_forward_pre_hook(lambda _module, inputs: positions.append(inputs[0]))
    bev, camera = head.bev.clone().requires_grad_(), head.camera.clone().requires_grad_()
    outputs = run(head, module, denoising, bev=bev, camera=camera)
    matches = match(outputs, boxes, labels, head.matching_config)
    losses = detection_losses(
        outputs, boxes, labels, head.config, denoising=denoising, matches=matches
    )
    total_loss(losses).backward()
    gradients = {
        f"pts_bbox_head.{name}": parameter.grad for name, parameter in module.named_parameters()
    }
    gradients |= {"in_bev": bev.grad, "in_img": camera.grad.flatten(0, 1)}
    return Trained(outputs, positions[0], decoded[0], denoising, matches, losses, gradients)


def test_position_embeddings(head, evaluated: Evaluated) -> None:
    module, cameras = evaluated.head, evaluated.cameras
    with torch.no_grad():
        bev = module.bev_positions(*head.bev.shape[-2:])
        image = module.image_positions(cameras, *head.camera.shape[-2:])
        references = module.references(head.samples, None)
        bev_queries, ray_queries = module.query_positions(references, cameras)

    assert_same(bev, head.arrays["mid/bev_pos_embeds"])
    assert_same(image.flatten(0, 1), head.arrays["mid/rv_pos_embeds"])
    assert_same(bev_queries, head.arrays["mid/bev_query_embeds"])
    assert_same(ray_queries, head.arrays["mid/rv_query_embeds"])
    assert_same(bev_queries + ray_queries, head.arrays["mid/query_embeds"])


def test_every_decoder_layer(head, evaluated: Evaluated) -> None:
    assert_same(evaluated.bev, head.arrays["mid/shared_conv"])
    for number, layer in enumerate(evaluated.layers):
        assert_same(layer.transpose(0, 1), head.arrays[f"mid/layer{number}_out_seqfirst"])
    assert_same(evaluated.decoded, head.arrays["mid/outs_dec"])


@pytest.mark.parametrize("branch", BRANCHES)
def test_head_outputs_of_every_layer(head, evaluated: Evaluated, branch: str) -> None:
    assert_same(getattr(evaluated.outputs, branch), head.arrays[f"eval/{branch}"])
    assert evaluated.outputs.denoising is None


def test_decoded_boxes(head, evaluated: Evaluated) -> None:
    for sample, found in enumerate(decode_boxes(evaluated.outputs, head.config)):
        pairs = found.queries * head.config.classes + found.labels
        kept = torch.isin(head.arrays[f"decode/{sample}/topk_flat_index"], pairs)
        official = head.arrays[f"decode/{sample}/bboxes_gravity"]

        assert torch.equal(pairs, head.arrays[f"decode/{sample}/topk_flat_index"][kept])
        assert torch.equal(found.labels, head.arrays[f"decode/{sample}/labels"])
        assert_same(found.scores, head.arrays[f"decode/{sample}/scores"])
        for column in range(official.shape[1]):
            assert_same(found.boxes_lidar[:, column], official[:, column])


def test_official_boxes_are_ours_with_z_at_the_bottom(head, evaluated: Evaluated) -> None:
    for sample, found in enumerate(decode_boxes(evaluated.outputs, head.config)):
        bottom = found.boxes_lidar.clone()
        bottom[:, 2] -= found.boxes_lidar[:, 5] / 2

        assert_same(bottom, head.arrays[f"get_bboxes/{sample}/tensor_bottom"])
        assert_same(found.boxes_lidar[:, :3], head.arrays[f"get_bboxes/{sample}/gravity_center"])
        assert torch.equal(found.labels, head.arrays[f"get_bboxes/{sample}/labels"])


def test_decoding_does_not_change_the_outputs(head, evaluated: Evaluated) -> None:
    before = evaluated.outputs.codes.clone()
    first: list[Detections] = decode_boxes(evaluated.outputs, head.config)
    again = decode_boxes(evaluated.outputs, head.config)
    assert torch.equal(before, evaluated.outputs.codes)
    assert all(torch.equal(a.boxes_lidar, b.boxes_lidar) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("leg", ["train", "edge_nogt1"])
def test_denoising_queries(head, leg: str) -> None:
    boxes, labels = _ground_truth(head, leg)
    queries = head.denoising(boxes, labels, leg)
    padded = int(head.arrays[f"{leg}/dn/pad_size"])
    expected = {
        name: head.arrays[f"{leg}/dn/{name}"]
        for name in ("padded_reference_points", "attn_mask", "known_labels", "known_bboxs")
    }

    assert queries.references.shape[1] == padded
    assert_same(queries.references, expected["padded_reference_points"][:, :padded])
    assert torch.equal(queries.blocked, expected["attn_mask"])
    assert torch.equal(queries.labels, expected["known_labels"])
    # Upstream takes z to the bottom of the box and back, which costs a rounding.
    assert_same(queries.boxes_lidar, expected["known_bboxs"])
    assert torch.equal(queries.slot, head.arrays[f"{leg}/dn/map_known_indice"])
    whose = head.arrays[f"{leg}/dn/batch_idx"][head.arrays[f"{leg}/dn/known_indice"]]
    assert torch.equal(queries.sample, whose)


@pytest.mark.parametrize("leg", ["train", "edge_nogt1"])
def test_a_seeded_generator_draws_the_official_noise(head, leg: str) -> None:
    boxes, labels = _ground_truth(head, leg)
    settings = head.document["train" if leg == "train" else "edge"]
    seed = settings["torch_manual_seed_before_forward"]
    drawn = make_denoising_queries(
        boxes,
        labels,
        head.config,
        head.point_range_m,
        generator=torch.Generator().manual_seed(seed),
    )
    assert drawn is not None
    stored = head.denoising(boxes, labels, leg)
    assert torch.equal(drawn.references, stored.references)
    assert torch.equal(drawn.labels, stored.labels)


@pytest.mark.parametrize("branch", BRANCHES)
def test_training_outputs_with_denoising_split_off(head, trained: Trained, branch: str) -> None:
    assert trained.outputs.denoising is not None
    assert_same(getattr(trained.outputs, branch), head.arrays[f"train/out/{branch}"])
    noised = getattr(trained.outputs.denoising, branch)
    assert_same(noised, head.arrays[f"train/out/dn_{branch}"])


def test_training_decoder(head, trained: Trained) -> None:
    assert_same(trained.query_positions, head.arrays["train/mid/query_embeds"])
    assert_same(trained.decoded, head.arrays["train/mid/outs_dec"])


def test_matching_costs(head, trained: Trained) -> None:
    boxes, labels = head.ground_truth()
    for sample in range(head.samples):
        order = head.arrays[f"train/assign/{sample}/class_sort_order"]
        cost = matching_cost(
            trained.outputs.codes[:, sample],
            trained.outputs.cls_logits[:, sample],
            boxes[sample][order],
            labels[sample][order],
            head.matching_config,
        )
        for layer in range(head.config.layers):
            key = f"train/assign/layer{layer}/{sample}/cost_sorted"
            if key in head.arrays:
                assert_same(cost[layer], head.arrays[key])


def test_hungarian_indices(head, trained: Trained) -> None:
    boxes, _ = head.ground_truth()
    start = 0
    for sample, own in enumerate(boxes):
        chosen = trained.matches.sample == sample
        order = head.arrays[f"train/assign/{sample}/class_sort_order"]
        for layer in range(head.config.layers):
            box = trained.matches.box[layer, chosen] - start
            query = trained.matches.query[layer, chosen]
            rank = torch.zeros(head.config.queries, dtype=torch.int64)
            rank[query] = order.argsort()[box] + 1
            official = head.arrays[f"train/assign/layer{layer}/{sample}/gt_inds_sorted"]
            assert torch.equal(rank, official)
        start += len(own)


def test_every_loss_term(head, trained: Trained) -> None:
    official = {
        key.removeprefix("train/loss/"): value
        for key, value in head.arrays.items()
        if key.startswith("train/loss/")
    }
    ours = trained.losses | {"total": total_loss(trained.losses)}
    assert ours.keys() == official.keys()
    for name, value in official.items():
        torch.testing.assert_close(ours[name].detach(), value, rtol=LOSS, atol=0)


def test_a_sample_without_ground_truth(head) -> None:
    """The official losses when the second sample has no box."""
    if "edge_nogt1/loss/total" not in head.arrays:
        pytest.skip("this set has no such case")
    boxes, labels = _ground_truth(head, "edge_nogt1")
    denoising = head.denoising(boxes, labels, "edge_nogt1")
    with torch.no_grad():
        outputs = run(head, head.build(), denoising)
        matches = match(outputs, boxes, labels, head.matching_config)
        losses = detection_losses(
            outputs, boxes, labels, head.config, denoising=denoising, matches=matches
        )
    for name, value in (losses | {"total": total_loss(losses)}).items():
        official = head.arrays[f"edge_nogt1/loss/{name}"]
        torch.testing.assert_close(value, official, rtol=LOSS, atol=0)


def test_stored_gradients(head, trained: Trained) -> None:
    stored = [key for key in head.arrays if key.startswith("train/grad/")]
    assert stored
    for key in stored:
        assert_same(trained.gradients[key.removeprefix("train/grad/")], head.arrays[key], GRADIENT)


def test_gradient_norms_of_every_parameter(head, trained: Trained) -> None:
    whole = head.document["train"]["grad_total_norm"]
    for name, norm in head.document["train"]["grad_norms"].items():
        ours = trained.gradients[name].norm().item()
        assert ours == pytest.approx(norm, rel=GRADIENT, abs=ZERO_GRADIENT * whole), name
    ours = [one for name, one in trained.gradients.items() if name.startswith("pts_bbox_head.")]
    assert torch.stack([one.norm() for one in ours]).norm().item() == pytest.approx(
        whole, rel=GRADIENT
    )


def test_branches_are_the_fields_of_the_outputs() -> None:
    assert tuple(one.name for one in fields(HeadOutputs)) == (*BRANCHES, "denoising")


def _ground_truth(head, leg: str) -> tuple[list[Tensor], list[Tensor]]:
    if leg == "train":
        return head.ground_truth()
    if f"{leg}/dn/pad_size" not in head.arrays:
        pytest.skip("this set has no such case")
    return head.ground_truth(without_sample=1)
