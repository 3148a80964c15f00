"""The head's evaluation gives the numbers of the official code, layer by layer.

pytest tests/upstream --golden-dir DIR
"""

from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from shared.model.box_coder import decode_boxes
from shared.model.head import CmtHead
from shared.model.outputs import HeadOutputs
from shared.model.positions import CameraGeometry, inverse_sigmoid

BRANCHES = ("center", "height", "dim", "rot", "vel", "cls_logits")


@dataclass
class Evaluated:
    """One evaluation pass, with what happens inside."""

    head: CmtHead
    cameras: CameraGeometry
    outputs: HeadOutputs
    bev: Tensor
    layers: list[Tensor]
    decoded: Tensor


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
        outputs = head.run(module)
    cameras = module.geometry(head.img_from_lidar)
    return Evaluated(module, cameras, outputs, bev[0], layers, decoded[0])


def test_position_embeddings(head, evaluated: Evaluated) -> None:
    module, cameras = evaluated.head, evaluated.cameras
    with torch.no_grad():
        bev = module.bev_positions(*head.bev.shape[-2:])
        image = module.image_positions(cameras, *head.camera.shape[-2:])
        references = module.references(head.samples, None)
        queries = module.query_positions(references, cameras)
        inside = inverse_sigmoid(references).sigmoid()
        bev_queries = module.bev_query_positions(inside)
        ray_queries = module.ray_query_positions(inside, cameras)

    head.check(bev, "mid/bev_pos_embeds")
    head.check(image.flatten(0, 1), "mid/rv_pos_embeds")
    head.check(bev_queries, "mid/bev_query_embeds")
    head.check(ray_queries, "mid/rv_query_embeds")
    head.check(queries, "mid/query_embeds")


def test_every_decoder_layer(head, evaluated: Evaluated) -> None:
    head.check(evaluated.bev, "mid/shared_conv")
    for number, layer in enumerate(evaluated.layers):
        head.check(layer.transpose(0, 1), f"mid/layer{number}_out_seqfirst")
    head.check(evaluated.decoded, "mid/outs_dec")


@pytest.mark.parametrize("branch", BRANCHES)
def test_head_outputs_of_every_layer(head, evaluated: Evaluated, branch: str) -> None:
    head.check(getattr(evaluated.outputs, branch), f"eval/{branch}")
    assert evaluated.outputs.denoising is None


def test_decoded_boxes(head, evaluated: Evaluated) -> None:
    for sample, found in enumerate(decode_boxes(evaluated.outputs, head.config)):
        pairs = found.queries * head.config.classes + found.labels
        kept = torch.isin(head.arrays[f"decode/{sample}/topk_flat_index"], pairs)

        assert torch.equal(pairs, head.arrays[f"decode/{sample}/topk_flat_index"][kept])
        assert torch.equal(found.labels, head.arrays[f"decode/{sample}/labels"])
        head.check(found.scores, f"decode/{sample}/scores")
        head.check(found.boxes_lidar, f"decode/{sample}/bboxes_gravity")


def test_official_boxes_are_ours_with_z_at_the_bottom(head, evaluated: Evaluated) -> None:
    for sample, found in enumerate(decode_boxes(evaluated.outputs, head.config)):
        bottom = found.boxes_lidar.clone()
        bottom[:, 2] -= found.boxes_lidar[:, 5] / 2

        head.check(bottom, f"get_bboxes/{sample}/tensor_bottom")
        head.check(found.boxes_lidar[:, :3], f"get_bboxes/{sample}/gravity_center")
        assert torch.equal(found.labels, head.arrays[f"get_bboxes/{sample}/labels"])


def test_decoding_does_not_change_the_outputs(head, evaluated: Evaluated) -> None:
    before = evaluated.outputs.codes.clone()
    first = decode_boxes(evaluated.outputs, head.config)
    again = decode_boxes(evaluated.outputs, head.config)
    assert torch.equal(before, evaluated.outputs.codes)
    assert all(torch.equal(a.boxes_lidar, b.boxes_lidar) for a, b in zip(first, again, strict=True))


def test_branches_are_the_fields_of_the_outputs() -> None:
    assert tuple(one.name for one in fields(HeadOutputs)) == (*BRANCHES, "denoising")
