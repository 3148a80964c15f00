"""What a store was made from, and an explanation of how two stores differ.

The identity holds everything that is known before a sensor file is read and determines the
features, and nothing else: digests instead of paths, no times, no library versions. Two stores of
the same thing have equal identity on any machine; what their sensor files held is compared by
`cache.inspection.sources_digest`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cache.format.checked_json import json_bytes
from cache.format.schema import SCHEMA_VERSION
from cache.storage.protocol import StorePath
from shared.config.augmentation import VariantDraws
from shared.config.config_json import to_json
from shared.config.cut import BACKBONE_CUT, Cut
from shared.config.preset import Preset
from shared.digests import json_digest
from shared.errors import CacheError, IdentityError

Identity = dict[str, Any]

PART = "part"  # the field that names a store inside a delta, which is not read by itself
# The fields that adding variants changes. A store of one variant was not drawn from anything.
VARIANT_FIELDS = ("variants", "variant_seed", "augmentation")
ABSENT_SENSORS = "absent sensors"  # the dataset of null features, which are inside a store
NECK_FIELDS = ("width", "bev_neck_channels")  # the fields of `HeadConfig` that necks depend on

# What a field means to a user; the longest matching prefix counts.
MEANINGS = {
    "schema_version": "the store's format, from a different version of frozen-cmt",
    "cut": "where the frozen part ends",
    "variants": "variants per sample, the recorded one included",
    "variant_seed": "seed of the augmented variants",
    "augmentation": "how far the augmented variants differ from the sample",
    "preset.camera": "the image branch of the preset",
    "preset.lidar": "the LiDAR branch of the preset",
    "preset.head": "the necks of the preset, which come before the cut",
    "preset.grid": "point range, voxels and BEV cells of the preset",
    "value_format": "number format of the maps, see --codec; codecs of one format agree",
    "precision": "number formats while computing, by device; on a GPU also --batch-size",
    "weights": "bytes of frozen weights and BatchNorm buffers: another checkpoint or seed",
    "dataset.version": "the nuScenes version",
    "dataset.tokens": "the list of samples or its order: another split",
    "dataset.inputs": "calibration, sweeps or annotations of the samples; in stores made before "
    "December 2026 also the kind of processor: those can be read, but not continued",
    "condition.revision": "the condition does something else since; without a number it is 1",
}
ABSENT = "absent"
_MISSING = object()
DIGEST_LENGTH = 64
SHOWN_LENGTH = 12  # characters of a digest in a message


def identity_document(
    *,
    preset: Preset,
    precision: str,
    value_format: str,
    weights: Mapping[str, str],
    dataset_version: str,
    tokens: Sequence[str],
    inputs_digest: str,
    cut: Cut = BACKBONE_CUT,
    variants: int = 1,
    draws: VariantDraws | None = None,
) -> Identity:
    """Return the identity of the features of these samples.

    Args:
        preset: only its camera and LiDAR branches count, and the grid where there is LiDAR; its
            name does not, nor does its head, except for what comes before the cut.
        precision: the policy of the frozen part, e.g. "float32".
        value_format: what the values are rounded to, see `cache.format.codec.Codec`.
        weights: digest of parameters and buffers by frozen module.
        dataset_version: e.g. "v1.0-trainval".
        tokens: samples in the store's order.
        inputs_digest: digest of what is read from the tables: sweeps, calibration, annotations.
        cut: where the frozen part ends.
        variants: per sample, the recorded one included.
        draws: what they are drawn from; None if there is only variant 0.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "cut": str(cut),
        "variants": variants,
        "variant_seed": None if draws is None else draws.seed,
        "augmentation": None if draws is None else to_json(draws.augmentation),
        "preset": frozen_document(preset, cut),
        "precision": precision,
        "value_format": value_format,
        "weights": dict(weights),
        "dataset": {
            "version": dataset_version,
            "tokens": json_digest(list(tokens)),
            "inputs": inputs_digest,
        },
    }
    plain = json.loads(json_bytes(document))  # tuples become lists, as when read
    assert isinstance(plain, dict)
    return plain


def frozen_document(preset: Preset, cut: Cut) -> dict[str, Any]:
    """Return the sections of a preset that determine the features, as JSON values."""
    whole = json.loads(json_bytes(to_json(preset)))
    return {
        "camera": whole["camera"],
        "lidar": whole["lidar"],
        "grid": None if preset.lidar is None else whole["grid"],
        "head": {name: whole["head"][name] for name in NECK_FIELDS} if cut.frozen_parts else None,
    }


def features_digest(identity: Mapping[str, Any]) -> str:
    """Return the digest of what one sample's features depend on: weights, branches, cut.

    It is equal for stores of two splits, so that a model trained on one may be evaluated on the
    other. Precision is left out: a store from a GPU and a store from a CPU differ only by rounding.
    So is the value format: 8 bit is a coarser rounding, measured in docs/store.md, and values mean
    the same. A model trained on 8-bit features may be evaluated on float16 ones, which shows what
    8 bit costs.
    """
    return json_digest({field: identity[field] for field in ("cut", "preset", "weights")})


def without_variants(identity: Mapping[str, Any]) -> Identity:
    """Return the fields that stay as they are when variants are added."""
    return {name: value for name, value in identity.items() if name not in VARIANT_FIELDS}


def rows_digest(identity: Mapping[str, Any], variant: int) -> str:
    """Return the digest of what the rows of a variant were made from.

    It stays the same when variants are added: variant 0 is drawn from nothing, and what the others
    are drawn from does not change.
    """
    drawn_from = {name: identity[name] for name in VARIANT_FIELDS[1:]} if variant else {}
    return json_digest({**without_variants(identity), **drawn_from})


def _differences(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted name and both values of every field that differs; lists are not split.

    A section that only one of the two has is a field.
    """
    for key in dict.fromkeys([*mine, *theirs]):
        field = f"{path}.{key}" if path else key
        first, second = mine.get(key, _MISSING), theirs.get(key, _MISSING)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            yield from _differences(first, second, field)
        elif first != second:
            yield field, first, second


def _shown(value: Any, compared: Any) -> str:
    """Return a value for a message: a digest by its beginning, if `compared` begins differently."""
    if value is _MISSING:
        return ABSENT
    if isinstance(value, Mapping):
        return f"{len(value)} fields"
    if not isinstance(value, str):
        return json.dumps(value)
    is_digest = len(value) == DIGEST_LENGTH
    if is_digest and not str(compared).startswith(value[:SHOWN_LENGTH]):
        return value[:SHOWN_LENGTH] + "..."
    return value


def _meaning(field: str) -> str:
    known = [start for start in MEANINGS if field == start or field.startswith(start + ".")]
    return f" ({MEANINGS[max(known, key=len)]})" if known else ""


def differing_fields(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of the fields that differ or that only one of the two has."""
    return [field for field, _, _ in _differences(mine, theirs)]


def explain_difference(
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    *,
    names: tuple[str, str] = ("in the store", "asked for"),
) -> list[str]:
    """Return one line per field that differs; empty if the two are equal.

    Args:
        mine: an identity, or a section of one.
        theirs: the identity to compare with, or the same section of it.
        names: how to refer to the two.
    """
    return [
        f"{field}: {_shown(first, second)} {names[0]}, {_shown(second, first)} {names[1]}"
        f"{_meaning(field)}"
        for field, first, second in _differences(mine, theirs)
    ]


def is_inside(identity: Mapping[str, Any]) -> bool:
    """Return whether a store with this identity is inside a store or a delta."""
    return PART in identity or identity["dataset"]["version"] == ABSENT_SENSORS


def require_whole_store(path: StorePath, identity: Mapping[str, Any]) -> None:
    """Make sure that a store has whole samples, and is not inside a delta.

    Raises:
        CacheError: if it is.
    """
    if PART in identity:
        raise CacheError(
            f"{path} is inside a delta store and has only its {identity[PART]} rows; name the "
            "delta, the folder above, and where a store is expected, the delta's base"
        )


def require_identity(
    path: Path | StorePath, present: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Make sure that a store was made from what is asked for.

    Args:
        path: of the store, for the message.
        present: its identity.
        wanted: what is asked for.

    Raises:
        IdentityError: with the differing fields and the remedy; nothing is changed on disk.
    """
    differences = explain_difference(present, wanted)
    if differences:
        raise IdentityError(
            f"{path} was not made from what was asked for:\n  "
            + "\n  ".join(differences)
            + f"\nUse the options it was made with (`feature-cache show {path}` prints them). To "
            "extract something else, name a different --store, or remove this one first. "
            "Nothing was changed."
        )
