"""The cores of a machine are divided among the processes that torchrun starts there."""

import pytest

from shared.errors import ConfigError
from shared.process.cores import core_share, local_processes


@pytest.mark.parametrize(
    ("cores", "processes", "share"), [(128, 8, 16), (16, 1, 16), (16, 3, 5), (2, 4, 1)]
)
def test_every_process_counts_on_its_share(
    cores: int, processes: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert core_share() == cores
    assert core_share(processes) == share
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert core_share() == core_share(99) == share


@pytest.mark.parametrize("text", ["", "0", "-1", "two"])
def test_a_number_of_processes_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"LOCAL_WORLD_SIZE is '{text}'.*Correct or unset it"):
        local_processes(environment={"LOCAL_WORLD_SIZE": text})
