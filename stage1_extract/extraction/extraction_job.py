"""The extraction that a command line describes, as data that workers elsewhere can be sent."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.extend import variants_at
from cache.storage.protocol import StorePath
from cache.writer import StoreWriter
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.preset import Preset
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.weights import frozen_backbones
from stage1_extract.extraction.extraction_identity import batch_size_at, open_or_create_store
from stage1_extract.extraction.null_sample import write_null_features
from stage1_extract.nuscenes.dataset_options import DatasetChoice, chosen_dataset
from stage1_extract.nuscenes.records import SampleRecord

MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedExtraction:
    """A store, and the backbones that fill it.

    Args:
        writer: of the store.
        frozen: on this machine's device.
        batch_size: samples per forward, as the store's identity has it.
        about: preset, device and weights, for people.
    """

    writer: StoreWriter
    frozen: FrozenBackbones
    batch_size: int
    about: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractionJob:
    """An extraction; see the options of the command.

    Args:
        preset, cut, checkpoint: the frozen part.
        store: to create or to resume.
        dataset: where the records came from.
        command: the words of the command line, for the store's provenance.
        codec, batch_size: None as in the store, or the default.
        variants: of the store.
        shard_bytes: uncompressed size of a shard.
    """

    preset: Preset
    cut: Cut
    checkpoint: Path | None
    store: StorePath
    dataset: DatasetChoice
    command: tuple[str, ...]
    codec: str | None
    variants: int
    batch_size: int | None
    shard_bytes: int

    def open(self, records: Sequence[SampleRecord], *, is_first: bool = True) -> OpenedExtraction:
        """Build the backbones, create the store or open it, and write its null features.

        Args:
            records: all samples of the store.
            is_first: whether no worker of this run has done so yet. The others need not compare
                the sensor files of finished rows again.

        Raises:
            IdentityError: if the store is made from something else than what is computed here.
        """
        frozen, origin = frozen_backbones(self.preset, self.checkpoint, self.cut)
        batch_size = self.batch_size or batch_size_at(self.store, frozen)
        writer = open_or_create_store(
            self.store,
            frozen,
            records,
            self.dataset,
            origin=origin,
            command=self.command,
            codec=self.codec,
            variants=self.variants,
            batch_size=batch_size,
            shard_bytes=self.shard_bytes,
            checks_sources=is_first,
        )
        if is_first:
            write_null_features(writer.store, frozen, shard_bytes=self.shard_bytes)
        is_cpu = frozen.device.type == "cpu"
        return OpenedExtraction(
            writer=writer,
            frozen=frozen,
            batch_size=1 if is_cpu else batch_size,
            about=f"{self.preset.name} on {frozen.device}: {origin}",
        )


def described_job(
    args: argparse.Namespace, preset: Preset, command: Sequence[str]
) -> ExtractionJob:
    """Return the extraction of a command line.

    Args:
        args: of `extract-features`.
        preset: that they name.
        command: the words of the command line.
    """
    return ExtractionJob(
        preset=preset,
        cut=BACKBONE_CUT if args.cut is None else args.cut,
        checkpoint=args.checkpoint,
        store=args.store,
        dataset=chosen_dataset(args),
        command=tuple(command),
        codec=args.codec,
        variants=variants_at(args.store) if args.variants is None else args.variants,
        batch_size=args.batch_size,
        shard_bytes=args.shard_mib * MIB,
    )
