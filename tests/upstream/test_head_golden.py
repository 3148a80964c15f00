"""The head's evaluation gives the numbers of the official code, layer by layer.

pytest tests/upstream --golden-dir DIR
"""

from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from shared.model.box_coder import decode_boxes
from shared.model.geometry.positions import CameraGeometry, inverse_sigmoid
from shared.model.head import CmtHead
from shared.model.outputs import OUTPUT_OF_BRANCH, HeadOutputs


@dataclass
class Evaluated:
    """An evaluation pass, with its intermediate tensors."""

    head: CmtHead
    cameras: CameraGeometry | None
    outputs: HeadOutputs
    bev: list[Tensor]
    layers: list[Tensor]
    decoded: Tensor


def record(module: torch.nn.Module, into: list[Tensor]) -> None:
    module.register_forward_hook(lambda _module, _inputs, output: into.append(output))


@pytest.fixture(scope="module")
def evaluated(head) -> Evaluated:
    module, bev, layers, decoded = head.build(), [], [], []
    if module.shared_conv is not None:
        record(module.shared_conv, bev)
    for layer in module.transformer["decoder"].layers:
        record(layer, layers)
    record(module.transformer["decoder"], decoded)
    with torch.no_grad():
        outputs = head.run(module)
    cameras = module.geometry(head.img_from_lidar)
    return Evaluated(module, cameras, outputs, bev, layers, decoded[0])


def test_position_embeddings(head, evaluated: Evaluated) -> None:
    module, cameras = evaluated.head, evaluated.cameras
    with torch.no_grad():
        references = module.references(head.samples, None)
        inside = inverse_sigmoid(references).sigmoid()
        ours = {
            "query_embeds": module.query_positions(references, cameras),
            "bev_query_embeds": module.bev_query_positions(inside),
        }
        if head.bev is not None:
            ours["bev_pos_embeds"] = module.bev_positions(*head.bev.shape[-2:])
        if cameras is not None:
            image = module.image_positions(cameras, *head.camera.shape[-2:])
            ours["rv_pos_embeds"] = image.flatten(0, 1)
            ours["rv_query_embeds"] = module.ray_query_positions(inside, cameras)

    assert ours.keys() == {key for key in head.golden.state("mid/") if key.endswith("_embeds")}
    for name, embedded in ours.items():
        head.check(embedded, f"mid/{name}")


def test_every_decoder_layer(head, evaluated: Evaluated) -> None:
    assert bool(evaluated.bev) == ("mid/shared_conv" in head.arrays)
    for bev in evaluated.bev:
        head.check(bev, "mid/shared_conv")
    for number, layer in enumerate(evaluated.layers):
        head.check(layer.transpose(0, 1), f"mid/layer{number}_out_seqfirst")
    head.check(evaluated.decoded, "mid/outs_dec")


@pytest.mark.parametrize("branch", OUTPUT_OF_BRANCH)
def test_head_outputs_of_every_layer(head, evaluated: Evaluated, branch: str) -> None:
    head.check(getattr(evaluated.outputs, OUTPUT_OF_BRANCH[branch]), f"eval/{branch}")
    assert evaluated.outputs.denoising is None


def test_decoded_boxes(head, evaluated: Evaluated) -> None:
    for sample, ours in enumerate(decode_boxes(evaluated.outputs, head.config)):
        pairs = ours.queries * head.config.classes + ours.labels
        official = head.arrays[f"decode/{sample}/topk_flat_index"]

        assert torch.equal(pairs, official[torch.isin(official, pairs)])
        assert torch.equal(ours.labels, head.arrays[f"decode/{sample}/labels"])
        head.check(ours.scores, f"decode/{sample}/scores")
        head.check(ours.boxes_lidar, f"decode/{sample}/bboxes_gravity")


def test_official_boxes_are_ours_with_z_at_the_bottom(head, evaluated: Evaluated) -> None:
    for sample, ours in enumerate(decode_boxes(evaluated.outputs, head.config)):
        bottom = ours.boxes_lidar.clone()
        bottom[:, 2] -= ours.boxes_lidar[:, 5] / 2

        head.check(bottom, f"get_bboxes/{sample}/tensor_bottom")
        head.check(ours.boxes_lidar[:, :3], f"get_bboxes/{sample}/gravity_center")
        assert torch.equal(ours.labels, head.arrays[f"get_bboxes/{sample}/labels"])


def test_decoding_does_not_change_the_outputs(head, evaluated: Evaluated) -> None:
    before = evaluated.outputs.codes.clone()
    first = decode_boxes(evaluated.outputs, head.config)
    again = decode_boxes(evaluated.outputs, head.config)
    assert torch.equal(before, evaluated.outputs.codes)
    assert all(torch.equal(a.boxes_lidar, b.boxes_lidar) for a, b in zip(first, again, strict=True))


def test_every_official_branch_has_a_field_of_the_outputs(head) -> None:
    official = {key.removeprefix("eval/") for key in head.arrays if key.startswith("eval/")}
    assert set(OUTPUT_OF_BRANCH) == official
    expected = (*OUTPUT_OF_BRANCH.values(), "denoising", "sensor_weights")
    assert tuple(field.name for field in fields(HeadOutputs)) == expected
