"""A sample list takes little memory, and holds what its three columns say."""

import pytest

from cache.format.samples import Samples
from cache.format.texts import Texts
from shared.digests import json_digest

TOKENS = ("bee", "an", 'a"t\\', "cow", "ant")  # not sorted, of several lengths, odd in JSON
SCENES = ("s", "s", "scene", "t", "s")
TIMES_US = (5, 4, -3, 2**53, 1)


@pytest.fixture
def samples() -> Samples:
    return Samples(tokens=TOKENS, scenes=SCENES, timestamps_us=TIMES_US)


@pytest.mark.parametrize("count", [1, 2, 5, 1024])
def test_the_digest_by_chunks_is_that_of_the_whole_document(
    samples: Samples, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("cache.format.samples.DIGESTED_AT_ONCE", count)
    assert samples.digest == json_digest([TOKENS, SCENES, TIMES_US])


def test_every_token_is_found_where_it_is(samples: Samples) -> None:
    assert [samples.position(token) for token in TOKENS] == list(range(len(TOKENS)))


@pytest.mark.parametrize("absent", ["", "a", "anta", "ant\0", "zebra", "caf\u00e9", "\ud800"])
def test_a_token_that_is_not_there_has_no_position(samples: Samples, absent: str) -> None:
    assert samples.position(absent) is None


def test_packed_texts_are_a_sequence_of_strings() -> None:
    texts = Texts.of(TOKENS)
    assert tuple(texts) == TOKENS
    assert (texts[1:3], texts[-1]) == (TOKENS[1:3], TOKENS[-1])
    assert texts.packed.shape == (5, 4)
    assert tuple(Texts(texts.packed)) == TOKENS
