"""The training pass gives the numbers of the official code: denoising, matching, losses, gradients.

pytest tests/upstream --golden-dir DIR
"""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from shared.data.ground_truth import GroundTruth
from shared.model.denoising import DenoisingQueries, make_denoising_queries
from shared.model.losses import detection_losses, total_loss
from shared.model.matcher import Matches, match, matching_cost
from shared.model.outputs import OUTPUT_OF_BRANCH, HeadOutputs

LOSS = 5e-6  # relative; measured 4e-7
GRADIENT = 2e-5  # of the largest value; measured 7e-7
# The queries of the first layer start empty, so that its values are all equal and its scores do not
# matter: the true gradient is zero, and the stored gradient is rounding, this share of the total.
ZERO_GRADIENT = 1e-7
TRULY_ZERO = "pts_bbox_head.transformer.decoder.layers.0.attentions.0.attn.in_proj_weight"


@dataclass
class Trained:
    """A training pass with denoising queries, losses and gradients."""

    outputs: HeadOutputs
    query_positions: Tensor
    decoded: Tensor
    denoising: DenoisingQueries
    matches: Matches
    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]


def ground_truth(head, leg: str) -> tuple[list[Tensor], list[Tensor]]:
    if leg == "train":
        return head.ground_truth()
    if f"{leg}/dn/pad_size" not in head.arrays:
        pytest.skip("this set has no such case")
    return head.ground_truth(without_sample=1)


@pytest.fixture(scope="module")
def trained(head) -> Trained:
    module = head.build()
    boxes, labels = head.ground_truth()
    denoising = head.denoising(boxes, labels, "train")
    calls = []
    module.transformer["decoder"].register_forward_hook(
        lambda _module, inputs, decoded: calls.append((inputs[0], decoded))
    )
    bev, camera = (
        None if maps is None else maps.clone().requires_grad_() for maps in (head.bev, head.camera)
    )
    outputs = module(bev, camera, head.img_from_lidar, denoising)
    matches = match(outputs, GroundTruth.of(boxes, labels), head.matching_config)
    losses = detection_losses(
        outputs, GroundTruth.of(boxes, labels), head.config, denoising=denoising, matches=matches
    )
    total_loss(losses).backward()
    gradients = {
        f"pts_bbox_head.{name}": parameter.grad for name, parameter in module.named_parameters()
    }
    if bev is not None:
        gradients["in_bev"] = bev.grad
    if camera is not None:
        gradients["in_img"] = camera.grad.flatten(0, 1)
    return Trained(outputs, *calls[0], denoising, matches, losses, gradients)


@pytest.mark.parametrize("leg", ["train", "edge_nogt1"])
def test_denoising_queries(head, leg: str) -> None:
    boxes, labels = ground_truth(head, leg)
    queries = head.denoising(boxes, labels, leg)
    stored = head.golden.state(f"{leg}/dn/")
    padded = int(stored["pad_size"])
    learnt = stored["padded_reference_points"][:, padded:]

    assert queries.references.shape[1] == padded
    head.check(torch.cat([queries.references, learnt], dim=1), f"{leg}/dn/padded_reference_points")
    assert torch.equal(queries.blocked, stored["attn_mask"])
    assert torch.equal(queries.labels, stored["known_labels"])
    # Upstream moves z to the bottom of the box and back, which adds a rounding.
    head.check(queries.boxes_lidar, f"{leg}/dn/known_bboxs")
    assert torch.equal(queries.slot, stored["map_known_indice"])
    assert torch.equal(queries.sample, stored["batch_idx"][stored["known_indice"]])


@pytest.mark.parametrize("leg", ["train", "edge_nogt1"])
def test_a_seeded_generator_draws_the_official_noise(head, leg: str) -> None:
    boxes, labels = ground_truth(head, leg)
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


@pytest.mark.parametrize("branch", OUTPUT_OF_BRANCH)
def test_training_outputs_with_denoising_split_off(head, trained: Trained, branch: str) -> None:
    assert trained.outputs.denoising is not None
    name = OUTPUT_OF_BRANCH[branch]
    head.check(getattr(trained.outputs, name), f"train/out/{branch}")
    head.check(getattr(trained.outputs.denoising, name), f"train/out/dn_{branch}")


def test_training_decoder(head, trained: Trained) -> None:
    head.check(trained.query_positions, "train/mid/query_embeds")
    head.check(trained.decoded, "train/mid/outs_dec")


def test_matching_costs(head, trained: Trained) -> None:
    truth, outputs = GroundTruth.of(*head.ground_truth()), trained.outputs
    costs = matching_cost(outputs.codes, outputs.class_logits, truth, head.matching_config)
    for sample, of_sample in enumerate(costs.split(truth.box_counts, dim=1)):
        cost = of_sample.transpose(1, 2)  # (L, Q, n)
        for layer in range(head.config.layers):
            key = f"train/assign/layer{layer}/{sample}/cost_sorted"
            if key in head.arrays:
                head.check(cost[layer], key)


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
    official = head.golden.state("train/loss/")
    ours = trained.losses | {"total": total_loss(trained.losses)}
    assert ours.keys() == official.keys()
    for name, value in official.items():
        torch.testing.assert_close(ours[name].detach(), value, rtol=LOSS, atol=0)


def test_a_sample_without_ground_truth(head) -> None:
    """The official losses when the second sample has no box."""
    boxes, labels = ground_truth(head, "edge_nogt1")
    denoising = head.denoising(boxes, labels, "edge_nogt1")
    with torch.no_grad():
        outputs = head.run(head.build(), denoising)
        matches = match(outputs, GroundTruth.of(boxes, labels), head.matching_config)
        losses = detection_losses(
            outputs,
            GroundTruth.of(boxes, labels),
            head.config,
            denoising=denoising,
            matches=matches,
        )
    for name, value in (losses | {"total": total_loss(losses)}).items():
        official = head.arrays[f"edge_nogt1/loss/{name}"]
        torch.testing.assert_close(value, official, rtol=LOSS, atol=0)


def test_stored_gradients(head, trained: Trained) -> None:
    stored = head.golden.state("train/grad/").keys()
    assert stored
    for name in stored - {TRULY_ZERO}:
        head.check(trained.gradients[name], f"train/grad/{name}", GRADIENT)


def test_gradient_norms_of_every_parameter(head, trained: Trained) -> None:
    norms, whole = (head.document["train"][key] for key in ("grad_norms", "grad_total_norm"))
    ours = {
        name: gradient.norm().item()
        for name, gradient in trained.gradients.items()
        if name.startswith("pts_bbox_head.")
    }
    assert ours.keys() == norms.keys()
    assert ours.pop(TRULY_ZERO) <= ZERO_GRADIENT * whole
    for name, norm in ours.items():
        assert norm == pytest.approx(norms[name], rel=GRADIENT), name
    assert torch.tensor(list(ours.values())).norm().item() == pytest.approx(whole, rel=GRADIENT)
