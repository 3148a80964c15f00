"""Every nuScenes category has the class that nuscenes-devkit gives it, however it is spelt."""

import pytest
from nuscenes.eval.detection.utils import category_to_detection_name

from shared.config.classes import CLASS_NAMES
from stage1_extract.nuscenes.annotations import (
    CATEGORIES_WITHOUT_CLASS,
    CLASS_OF_CATEGORY,
    class_name,
)

NUSCENES = [name for name in CATEGORIES_WITHOUT_CLASS if name not in ("ignore", "other")]


@pytest.mark.parametrize("category", [*CLASS_OF_CATEGORY, *NUSCENES])
def test_a_category_has_the_class_of_the_devkit(category: str) -> None:
    official = category_to_detection_name(category)
    assert class_name(category) == (official or category)
    assert (official is None) == (category in CATEGORIES_WITHOUT_CLASS)


def test_there_are_the_23_categories_of_nuscenes() -> None:
    assert len(CLASS_OF_CATEGORY) + len(NUSCENES) == 23
    assert set(CLASS_OF_CATEGORY.values()) == set(CLASS_NAMES)


@pytest.mark.parametrize("spelt", [str.upper, str.title, str.encode, "  {} ".format])
@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_class_is_known_in_any_spelling(name: str, spelt) -> None:  # type: ignore[no-untyped-def]
    assert class_name(spelt(name)) == name
    assert class_name(spelt(name.replace("_", " "))) == name
