"""The command-line options that select nuScenes samples, shared by every stage 1 command."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.errors import ConfigError
from stage1_extract.nuscenes.box_convention import CONVENTIONS, BoxConvention
from stage1_extract.nuscenes.info_files import infos_version, read_infos
from stage1_extract.nuscenes.nuscenes_tables import read_tables
from stage1_extract.nuscenes.records import SampleRecord

DEFAULT_VERSION, DEFAULT_SPLIT = "v1.0-trainval", "train"
OF_STORE = {"version": "that of the store", "split": "that of the store"}
OF_BASE = {
    "version": f"{DEFAULT_VERSION}, with --base that of the base",
    "split": f"{DEFAULT_SPLIT}, with --base that of the base",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetChoice:
    """Which samples, and where their description comes from.

    Args:
        nuscenes: dataset root.
        version: of nuScenes, e.g. "v1.0-mini".
        split: of the tables, see `read_tables`; not used with `infos`.
        infos: info pickle to read instead of the tables.
        box_convention: of an old info pickle's boxes.
        existing_only: leave out samples and sweeps whose files are missing.
    """

    nuscenes: Path
    version: str
    split: str
    infos: Path | None
    box_convention: Literal["auto"] | BoxConvention
    existing_only: bool

    def read(self) -> list[SampleRecord]:
        """Read the records.

        Raises:
            DatasetError: if the tables or the info file cannot be read, or hold no samples.
        """
        if self.infos is None:
            return read_tables(
                self.nuscenes, self.version, self.split, existing_only=self.existing_only
            )
        return read_infos(
            self.infos,
            self.nuscenes,
            box_convention=self.box_convention,
            existing_only=self.existing_only,
        )

    def document(self) -> dict[str, Any]:
        """Return the choice as JSON for the store's provenance, without machine paths."""
        return {
            "version": self.version,
            "split": self.split,
            "infos": None if self.infos is None else self.infos.name,
            "box_convention": self.box_convention,
            "existing_only": self.existing_only,
        }


def add_dataset_options(
    parser: argparse.ArgumentParser, *, version: str = DEFAULT_VERSION, split: str = DEFAULT_SPLIT
) -> None:
    """Add the dataset options to a command; `version` and `split` say what it takes by default."""
    parser.add_argument("--nuscenes", type=Path, required=True, help="dataset root")
    parser.add_argument("--version", help=f"of the tables, e.g. v1.0-mini (default {version})")
    parser.add_argument("--split", help=f"e.g. val, mini_train (default {split})")
    parser.add_argument("--infos", type=Path, help="mmdet3d info pickle, instead of a --split")
    parser.add_argument(
        "--box-convention",
        choices=("auto", *CONVENTIONS),
        help="of an old info pickle (default auto)",
    )
    parser.add_argument(
        "--existing-only",
        action="store_true",
        default=None,
        help="for a partial copy of nuScenes: leave out samples and sweeps without files",
    )


def chosen_dataset(
    args: argparse.Namespace, recorded: dict[str, Any] | None = None
) -> DatasetChoice:
    """Return the choice made on the command line, with a store's record as the default.

    Raises:
        ConfigError: if the store was made from an info file and none is named, or if a split of the
            tables is named beside an info file.
    """
    if args.infos is not None and args.split is not None:
        raise ConfigError(
            f"--split {args.split} chooses samples of the tables, but --infos {args.infos} lists "
            "its own samples; leave one of the two out"
        )
    recorded = recorded or {}
    if recorded.get("infos") and args.infos is None and args.split is None:
        raise ConfigError(
            f"the store was made from the info file {recorded['infos']}; name it with --infos, or "
            "give --version and --split to read the tables"
        )

    def pick(option: str, otherwise: Any) -> Any:
        value = getattr(args, option)
        return recorded.get(option, otherwise) if value is None else value

    version = pick("version", None if args.infos else DEFAULT_VERSION)
    if version is None:
        version = infos_version(args.infos)
    if version is None:
        raise ConfigError(f"{args.infos} does not say its nuScenes version; give it with --version")
    return DatasetChoice(
        nuscenes=args.nuscenes,
        version=version,
        split=pick("split", DEFAULT_SPLIT),
        infos=args.infos,
        box_convention=pick("box_convention", "auto"),
        existing_only=pick("existing_only", False),
    )
