"""The two sides of a parity check: a store, or a delta beside its base, and the live backbones."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from cache.delta.conditioned_features import ConditionedFeatures
from cache.delta.delta_metadata import DeltaMetadata, read_delta
from cache.delta.open_features import open_delta
from cache.format.identity import explain_difference, require_identity
from cache.inspection.parity_record import checked_content, write_record
from cache.reader import CachedFeatures
from cache.storage.location import parse_store_path
from cache.storage.protocol import StorePath
from shared.config.cut import Cut
from shared.config.preset import Preset
from shared.data.features import FrameFeatures
from shared.errors import CacheError, ConfigError, IdentityError
from shared.process.device import device_name
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.extraction_identity import (
    draws_of,
    recorded_batch_size,
    store_identity,
)
from stage1_extract.extraction.installed_versions import installed_versions
from stage1_extract.nuscenes.dataset_options import chosen_dataset
from stage1_extract.nuscenes.records import SampleRecord
from stage1_extract.parity.bit_equality import Computer, LiveBatches, live_batches
from stage1_extract.parity.compared_pair import ComparedPair
from stage1_extract.preprocessing.conditioned_input import ConditionedInput
from stage1_extract.preprocessing.raw_frames import RawFrames


class TouchedSamples:
    """The samples of a delta that its condition touches, as a `FeatureSource`.

    Args:
        conditioned: base and delta.
    """

    def __init__(self, conditioned: ConditionedFeatures) -> None:
        self._conditioned = conditioned
        tokens = conditioned.tokens
        self._tokens = tuple(tokens[place] for place in conditioned.metadata.plan.touched())

    @property
    def preset(self) -> Preset:
        """The detector the features belong to."""
        return self._conditioned.preset

    @property
    def cut(self) -> Cut:
        """Where the frozen part ends."""
        return self._conditioned.cut

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens of the touched samples, in the base's order."""
        return self._tokens

    def read(
        self, tokens: Sequence[str], variant: int = 0, camera_variant: int | None = None
    ) -> list[FrameFeatures]:
        """Return the features of these samples, as `ConditionedFeatures.read`."""
        return self._conditioned.read(tokens, variant, camera_variant)


def store_pair(args: argparse.Namespace) -> ComparedPair:
    """Return the two sides of a check of a store.

    Raises:
        IdentityError: if the store was made from something else.
        CacheError: if it is not finished.
    """
    cached = CachedFeatures(args.store)
    cached.require_complete()
    frozen, records = _frozen_and_records(args, cached)
    provenance, draws = cached.provenance, draws_of(cached.preset, cached.variants)
    batches = _batches(cached, provenance.device, provenance.software.get("torch", ""), frozen)
    layout = cached.store.layout
    return ComparedPair(
        live=LiveFeatures(records, frozen, draws),
        device=device_name(frozen.device),
        cached=cached,
        name=cached.path.name,
        batches=batches,
        samples=layout.samples,
        variants=layout.variants,
        slots=layout.slots,
        content=checked_content(cached.store),
        keep=partial(write_record, cached.store),
    )


def delta_pair(args: argparse.Namespace) -> ComparedPair:
    """Return the two sides of a check of a delta: live, everything happens to the raw files.

    Absent cameras are black images, stuck sensors an earlier sample's files, and all go through the
    backbones. Rows are drawn from the samples that the condition touches.

    Raises:
        IdentityError: if the delta or its base was made from something else.
        CacheError: if one of them is not finished.
    """
    metadata = read_delta(args.store)
    base = _recorded_base(args.store, metadata) if args.base is None else CachedFeatures(args.base)
    conditioned = open_delta(args.store, base)
    frozen, records = _frozen_and_records(args, base)
    under = ConditionedInput(args.condition or metadata.provenance.dataset["condition"], records)
    differences = explain_difference(
        metadata.condition_identity, under.condition.identity, names=("in the delta", "now")
    )
    if differences:
        raise IdentityError(
            f"condition {under.ref} is not the one that {args.store} was made with:\n  "
            + "\n  ".join(differences)
            + "\nName a file as it was with --condition. A condition of ours that differs can be "
            "checked by the version of frozen-cmt that made the delta; with this one, extract it "
            "again into a different --store"
        )
    touched = TouchedSamples(conditioned)
    if not touched.tokens:
        raise ConfigError(f"{args.store} touches no sample, so there is nothing to compare")
    draws, names = draws_of(base.preset, base.variants), frozenset(touched.tokens)
    own = [record for record in records if record.token in names]
    device = metadata.provenance.device or base.provenance.device
    if device != base.provenance.device:
        device = f"{base.provenance.device} and, in the delta, {device}"
    batches = _batches(base, device, metadata.provenance.software.get("torch", ""), frozen)
    if frozen.device.type != "cpu":
        reason = "nowhere: on a GPU a delta's samples are computed beside others than the base's"
        batches = replace(batches, exact_at=(), reason=reason)
    return ComparedPair(
        live=LiveFeatures(own, frozen, draws, RawFrames(own, base.preset, draws, under)),
        device=device_name(frozen.device),
        cached=touched,
        name=conditioned.path.name,
        batches=batches,
        samples=len(touched.tokens),
        variants=conditioned.variants,
        slots=None,
        content=conditioned.content.checked(),
        keep=conditioned.content.keep,
    )


def _recorded_base(path: StorePath, metadata: DeltaMetadata) -> CachedFeatures:
    """Open the base of the delta at `path` where it was when the delta was extracted.

    Raises:
        CacheError: if it cannot be opened there.
    """
    try:
        return CachedFeatures(parse_store_path(metadata.base_path))
    except CacheError as error:
        raise CacheError(
            f"the base of {path} was at {metadata.base_path}, and cannot be opened there; name it "
            f"with --base ({error})"
        ) from error


def _frozen_and_records(
    args: argparse.Namespace, cached: CachedFeatures
) -> tuple[FrozenBackbones, list[SampleRecord]]:
    """Return the backbones and samples that a store was made with.

    Raises:
        IdentityError: if the store was made from something else.
    """
    dataset = chosen_dataset(args, cached.provenance.dataset)
    records = dataset.read()
    frozen, _ = frozen_backbones(cached.preset, args.checkpoint, cached.cut)
    identity = store_identity(
        frozen,
        records,
        dataset.version,
        value_format=cached.identity["value_format"],
        variants=cached.variants,
        batch_size=recorded_batch_size(cached.identity),
    )
    require_identity(cached.path, cached.identity, identity)
    return frozen, records


def _batches(
    cached: CachedFeatures, device: str, torch: str, frozen: FrozenBackbones
) -> LiveBatches:
    """Return the batch sizes of the live side of a store made on `device` with this torch."""
    made_with = Computer(
        device=device,
        torch=torch,
        batch_size=recorded_batch_size(cached.identity) or 1,  # a CPU computes samples one by one
    )
    return live_batches(
        made_with, device=device_name(frozen.device), torch=installed_versions()["torch"]
    )
