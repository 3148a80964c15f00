"""Denoising queries: noised copies of the ground truth that the decoder must restore.

They precede the ordinary queries. Every group holds a copy of each box of a sample, in slots shared
by all samples: box i of a sample has its copy g in slot g * (boxes of the fullest sample) + i.
B samples, Q ordinary queries, P padded slots, n boxes of a sample, N copies in the batch.

Source: CMT, cmt_head.py `prepare_for_dn`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.config.head_config import Denoising, HeadConfig
from shared.model.geometry.positions import metres_to_fractions
from shared.process.device import send


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoisingQueries:
    """What the head needs to decode noised boxes, and the losses to assess them.

    Args:
        references: (B, P, 3) float32, fractions of the point range; (0, 0, 0) in empty slots.
        blocked: (P + Q, P + Q) bool, True where the query of the row may not look at the column.
        sample: (N,) int64, the sample of each copy.
        slot: (N,) int64, place of each copy among the P.
        labels: (N,) int64, class of each copy; K (background) where the noise was too strong.
        boxes_lidar: (N, 9) float32, the box without noise, z is its centre.
    """

    references: Tensor
    blocked: Tensor
    sample: Tensor
    slot: Tensor
    labels: Tensor
    boxes_lidar: Tensor


def denoising_groups(fullest: int, config: HeadConfig) -> int:
    """Return how many copies of each box fit; 0 if there are no boxes, or more than queries.

    Args:
        fullest: boxes of the fullest sample.
        config: queries and denoising settings.
    """
    return min(config.denoising.groups, config.queries // fullest) if fullest else 0


def make_denoising_queries(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    config: HeadConfig,
    point_range_m: Sequence[float],
    *,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    fullest: int | None = None,
    device: torch.device | str = "cpu",
) -> DenoisingQueries | None:
    """Copy and noise the ground truth of a batch, on the host, and send that to a device.

    Args:
        boxes: B tensors (n, 9) float32 on the host, LiDAR frame, z is the centre.
        labels: B tensors (n,) int64 on the host, 0 to K - 1.
        config: queries, classes and denoising settings.
        point_range_m: minima, then maxima of x, y, z.
        generator: draws the noise; of any device.
        noise: (N, 3) in -1..1, group by group, instead of `generator`.
        fullest: boxes of the fullest sample of the whole batch, if this is a share of its samples.
        device: of the detector.

    Returns:
        The queries, or None if nothing can be noised: no sample has a box, or a sample has more
        boxes than there are queries. Training then continues without (upstream divides by zero).

    Raises:
        ValueError: unless exactly one of `generator` and `noise` is given, or if `noise` has the
            wrong shape.
    """
    counts = [len(own) for own in boxes]
    if fullest is None:
        fullest = max(counts)
    groups = denoising_groups(fullest, config)
    if groups == 0:
        return None
    clean = torch.cat(list(boxes)).repeat(groups, 1)  # (N, 9)
    strength = _noise((len(clean), 3), generator, noise).to(clean)  # (N, 3)
    references, relabelled = _noised_references(
        clean, strength, config.denoising, clean.new_tensor(point_range_m).view(2, 3)
    )
    sample, slot = _places(counts, groups, fullest)
    padded = references.new_zeros(len(boxes), groups * fullest, 3)
    padded[sample, slot] = references
    copied = torch.cat(list(labels)).repeat(groups).masked_fill(relabelled, config.classes)  # (N,)
    padded, sample, slot, copied, clean = send([padded, sample, slot, copied, clean], device)
    return DenoisingQueries(
        references=padded,
        blocked=_blocked(groups, fullest, config.queries, clean.device),
        sample=sample,
        slot=slot,
        labels=copied,
        boxes_lidar=clean,
    )


def _places(counts: Sequence[int], groups: int, fullest: int) -> tuple[Tensor, Tensor]:
    """Return sample and slot of every copy, group by group, each (N,)."""
    sample = torch.cat([torch.full((n,), index) for index, n in enumerate(counts)])
    within = torch.cat([torch.arange(n) for n in counts])
    slot = torch.cat([within + fullest * group for group in range(groups)])
    return sample.repeat(groups), slot


def _noise(
    shape: tuple[int, int], generator: torch.Generator | None, noise: Tensor | None
) -> Tensor:
    """Return `noise` if it has this shape, or draw it uniformly from [-1, 1)."""
    if (generator is None) == (noise is None):
        raise ValueError("denoising needs exactly one of a torch.Generator and the noise itself")
    if noise is None:
        assert generator is not None
        return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1
    if noise.shape != shape:
        raise ValueError(
            f"denoising noise: expected {shape} (boxes of the batch times groups, xyz), "
            f"got {tuple(noise.shape)}"
        )
    return noise


def _noised_references(
    boxes: Tensor, strength: Tensor, config: Denoising, point_range_m: Tensor
) -> tuple[Tensor, Tensor]:
    """Move the centres by the noise.

    Returns:
        references: (N, 3) fractions of the range, clamped to it.
        relabelled: (N,) bool, True where a copy is so far off that it counts as background.
    """
    centres_m = boxes[:, :3]
    if config.noise_scale == 0:
        # Upstream: without noise the centres stay in metres; the head clamps them to 0 and 1, which
        # makes the copies useless. To denoise without noise, set a scale of 1e-9.
        return centres_m, torch.zeros_like(strength[:, 0], dtype=torch.bool)
    # Upstream: the noise is along the axes of the LiDAR frame, the sizes along those of the box.
    moved_m = strength * (boxes[:, 3:6] / 2 + config.noise_offset_m) * config.noise_scale
    references = metres_to_fractions(centres_m + moved_m, point_range_m)
    return references.clamp(min=0.0, max=1.0), strength.norm(dim=1) > config.split


def _blocked(groups: int, fullest: int, queries: int, device: torch.device) -> Tensor:
    """Return the (P + Q, P + Q) mask: groups see themselves and the Q, the Q only each other.

    Upstream: the samples that do not fill a slot see it, empty.
    """
    place = torch.arange(groups * fullest + queries, device=device)
    group = (place // fullest).clamp(max=groups)  # (P + Q,); the Q are the last group
    differs = group.unsqueeze(1) != group
    return differs & (group < groups)
