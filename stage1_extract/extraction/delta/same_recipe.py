"""Whether a delta would be made as its base was: preset, weights, precision, samples, files."""

import logging
from collections.abc import Sequence
from pathlib import Path

from cache.format.identity import explain_difference, identity_document
from cache.reader import CachedFeatures
from cache.verification.check_sources import require_same_sources
from shared.config.preset import Preset
from shared.errors import IdentityError
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.extraction.extraction_identity import (
    draws_of,
    inputs_digest,
    precision_policy,
)
from stage1_extract.nuscenes.records import SampleRecord

log = logging.getLogger(__name__)


def require_same_recipe(
    base: CachedFeatures,
    preset: Preset,
    records: Sequence[SampleRecord],
    dataset_version: str,
    frozen: FrozenBackbones | None,
    batch_size: int | None,
) -> None:
    """Make sure that computing the base's features here and now would give its identity.

    Args:
        base: the base.
        preset: asked for.
        records: all samples at hand, in order.
        dataset_version: e.g. "v1.0-trainval".
        frozen: the backbones; None if none has to run, so that weights and device do not matter.
        batch_size: of the forwards, as `precision_policy` takes it.

    Raises:
        IdentityError: naming every field that differs.
    """
    then = base.identity
    wanted = identity_document(
        preset=preset,
        cut=base.cut,
        precision=then["precision"] if frozen is None else precision_policy(frozen, batch_size),
        value_format=then["value_format"],
        weights=then["weights"] if frozen is None else frozen.digests(),
        dataset_version=dataset_version,
        tokens=[record.token for record in records],
        inputs_digest=inputs_digest(records, preset),
        variants=base.variants,
        draws=draws_of(preset, base.variants),
    )
    differences = explain_difference(then, wanted, names=("in the base", "asked for"))
    if differences:
        raise IdentityError(
            f"the base {base.path} was not made from what was asked for:\n  "
            + "\n  ".join(differences)
            + "\nUse the preset, checkpoint, samples and kind of device that it was made with. "
            "Nothing was written."
        )


def require_same_files(base: CachedFeatures, root: Path) -> None:
    """Make sure that a base was made from the sensor files in a dataset root.

    Raises:
        IdentityError: if files differ or are missing, naming some.
        DatasetError: if a file cannot be read.
    """
    rows = require_same_sources(base.store, root)
    if rows.compared:
        log.info("the sensor files of %d rows are still those of the base", rows.compared)
    if rows.unknown:
        log.warning("the sensor files of %d rows of %s are not known", rows.unknown, base.path)
