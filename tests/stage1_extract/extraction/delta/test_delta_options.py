"""Options of a delta that contradict its base."""

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cache.reader import CachedFeatures
from shared.config.cut import BACKBONE_CUT, parse_cut
from shared.errors import ConfigError
from stage1_extract.extraction.delta.delta_options import require_options_of_base


def asked(**options: object) -> Namespace:
    return Namespace(**{"codec": None, "variants": None, "cut": None, **options})


def test_the_batch_size_is_that_which_the_base_names(tiny_store: Path) -> None:
    base = CachedFeatures(tiny_store)
    require_options_of_base(asked(batch_size=4), base, 4)
    require_options_of_base(asked(batch_size=None), base, 4)
    require_options_of_base(asked(batch_size=2), base, None)  # a CPU computes one by one anyway
    with pytest.raises(ConfigError, match=r"--batch-size 2 differs from the base .* which has 4"):
        require_options_of_base(asked(batch_size=2), base, 4)


def test_the_cut_is_the_base_s_also_where_the_default_is_asked_for(tiny_store: Path) -> None:
    whole = CachedFeatures(tiny_store)
    base: Any = SimpleNamespace(
        path="base.zarr", store=whole.store, variants=1, cut=parse_cut("memory")
    )
    for cut in (None, parse_cut("memory")):
        require_options_of_base(asked(cut=cut), base, None)
    expected = r"--cut backbone differs from the base base\.zarr, which has memory"
    with pytest.raises(ConfigError, match=expected):
        require_options_of_base(asked(cut=BACKBONE_CUT), base, None)
    require_options_of_base(asked(cut=BACKBONE_CUT), whole, None)
