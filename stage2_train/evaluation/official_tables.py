"""Which nuScenes tables a set of samples belongs to, and how much of which split it covers.

Tables may be partial, and a store or a submission may hold part of a split; this module says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import DatasetError

# Splits that nuscenes-devkit accepts, by the end of the tables' version.
SPLITS = {
    "mini": ("mini_train", "mini_val"),
    "trainval": ("train", "val", "train_detect", "train_track"),
    "test": ("test",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """The part of nuScenes that an evaluation covers.

    Args:
        samples: number of samples evaluated.
        split: the official split if these are all its samples in the tables, else None.
        parts: split -> (samples evaluated, samples in the tables), where any are evaluated.
        scenes: split -> (its scenes in the tables, its scenes in nuScenes), for the same splits.
    """

    samples: int
    split: str | None
    parts: Mapping[str, tuple[int, int]]
    scenes: Mapping[str, tuple[int, int]]

    @property
    def is_official(self) -> bool:
        """Whether the numbers may be compared with published ones of `split`."""
        return self.split is not None and len(set(self.scenes[self.split])) == 1

    def statement(self) -> str:
        """Say which samples are evaluated and whether the numbers compare with published ones."""
        if self.split is None:
            pieces = [f"{some} of {total} of {name}" for name, (some, total) in self.parts.items()]
            inside = f" ({', '.join(pieces)})" if pieces else ""
            return (
                f"{self.samples} samples{inside}: not a whole official split, so ground truth is "
                "restricted to them and the numbers are not comparable with published ones"
            )
        here, official = self.scenes[self.split]
        if not self.is_official:
            return (
                f"all {self.samples} samples of {self.split} that the tables have, but those have "
                f"only {here} of its {official} scenes: the numbers are not comparable with "
                "published ones"
            )
        return f"all {self.samples} samples of {self.split}, {here} of its {official} scenes"


def version_of(root: Path, tokens: Sequence[str], source: Path) -> str:
    """Return the version whose tables hold all samples; the smallest, as mini is part of trainval.

    Args:
        root: nuScenes root with one or more folders of tables.
        tokens: sample tokens.
        source: file they come from, for the message.

    Raises:
        DatasetError: if there are no tables, or none with all these samples.
    """
    known = {file.parent.name: _sample_tokens(file) for file in root.glob("*/sample.json")}
    if not known:
        raise DatasetError(
            f"{root} has no nuScenes tables (such as v1.0-trainval/sample.json); name the folder "
            "that holds v1.0-trainval or v1.0-mini"
        )
    holding = [version for version, all_of in known.items() if all_of.issuperset(tokens)]
    if holding:
        return min(holding, key=lambda version: len(known[version]))
    closest = max(known, key=lambda version: len(known[version].intersection(tokens)))
    unknown = [token for token in tokens if token not in known[closest]]
    raise DatasetError(
        f"{source}: {len(unknown)} of {len(tokens)} samples (first {unknown[0]}) are not in the "
        f"{closest} tables of {root} (versions there: {', '.join(sorted(known))}); name the "
        "nuScenes root that the submission was made for"
    )


def open_tables(root: Path, version: str) -> Any:
    """Open tables with nuscenes-devkit.

    Raises:
        DatasetError: if the devkit or a table is missing, or the devkit cannot use them.
    """
    try:
        from nuscenes import NuScenes
    except ImportError as error:
        raise DatasetError(
            "official metrics need nuscenes-devkit: pip install 'frozen-cmt[evaluate]'"
        ) from error
    if not (root / version).is_dir():
        raise DatasetError(
            f"{root} has no tables of {version}; name the nuScenes root that the store was made "
            "from, or omit --nuscenes to write only the result JSON"
        )
    try:
        # It also requires the map masks that the tables name, although detection does not use them.
        tables = NuScenes(version, str(root), verbose=False)
    except (OSError, KeyError, ValueError, AssertionError) as error:
        raise DatasetError(
            f"nuscenes-devkit cannot open the {version} tables of {root} "
            f"({type(error).__name__}: {error}); it needs the 13 tables of nuScenes, consistent, "
            "and the maps folder next to them"
        ) from error
    if not tables.sample_annotation:
        raise DatasetError(
            f"the {version} tables of {root} have no annotations, so there is nothing to measure "
            "against; the test split is evaluated by the nuScenes server only"
        )
    return tables


def coverage(tables: Any, tokens: Sequence[str]) -> Coverage:
    """Return how much of which split the samples are.

    Raises:
        DatasetError: if the tables lack one of the samples, or the LiDAR keyframe of one.
    """
    from nuscenes.utils.splits import create_splits_scenes

    scene_of = {
        sample["token"]: tables.get("scene", sample["scene_token"])["name"]
        for sample in tables.sample
    }
    _require_usable(tables, tokens, scene_of)
    here = set(scene_of.values())
    wanted = set(tokens)
    split, parts, scenes = None, {}, {}
    official = create_splits_scenes()
    for name in SPLITS.get(tables.version.rpartition("-")[2], ()):
        scenes_of_split = set(official[name])
        inside = {token for token, scene in scene_of.items() if scene in scenes_of_split}
        if not inside & wanted:
            continue
        parts[name] = (len(inside & wanted), len(inside))
        scenes[name] = (len(here & scenes_of_split), len(official[name]))
        if inside == wanted and split is None:
            split = name
    return Coverage(samples=len(tokens), split=split, parts=parts, scenes=scenes)


def _require_usable(tables: Any, tokens: Sequence[str], known: Mapping[str, str]) -> None:
    where = f"the {tables.version} tables of {tables.dataroot}"
    unknown = [token for token in tokens if token not in known]
    if unknown:
        raise DatasetError(
            f"{len(unknown)} of {len(tokens)} samples (first {unknown[0]}) are not in {where}; "
            "name the root the store was made from"
        )
    blind = [token for token in tokens if "LIDAR_TOP" not in tables.get("sample", token)["data"]]
    if blind:
        raise DatasetError(
            f"{where} are partial: {len(blind)} of {len(tokens)} samples (first {blind[0]}) have "
            "no LIDAR_TOP keyframe in sample_data, from which the devkit takes the ego position"
        )


def _sample_tokens(file: Path) -> set[str]:
    try:
        return {record["token"] for record in json.loads(file.read_text())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file} is no nuScenes sample table ({error})") from error
