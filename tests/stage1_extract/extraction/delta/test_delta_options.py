"""Options of a delta that contradict its base."""

from argparse import Namespace
from pathlib import Path

import pytest

from cache.reader import CachedFeatures
from shared.config.cut import BACKBONE_CUT
from shared.errors import ConfigError
from stage1_extract.extraction.delta.delta_options import require_options_of_base


def asked(**options: object) -> Namespace:
    return Namespace(**{"codec": None, "variants": None, "cut": BACKBONE_CUT, **options})


def test_the_batch_size_is_that_which_the_base_names(tiny_store: Path) -> None:
    base = CachedFeatures(tiny_store)
    require_options_of_base(asked(batch_size=4), base, 4)
    require_options_of_base(asked(batch_size=None), base, 4)
    require_options_of_base(asked(batch_size=2), base, None)  # a CPU computes one by one anyway
    with pytest.raises(ConfigError, match=r"--batch-size 2 differs from the base .* which has 4"):
        require_options_of_base(asked(batch_size=2), base, 4)
