"""A worker's slice: from `--slice`, else torchrun, else Slurm; arrays of launchers count all."""

import argparse
import logging

import pytest
import torch

from cache.coordination.claims import WorkerSlice
from shared.errors import ConfigError
from stage1_extract.__main__ import options
from stage1_extract.extraction.worker_slice import (
    choose_cuda_device,
    choose_slice,
    parse_slice,
    without_slice,
)

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "5", "LOCAL_RANK": "2"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "10"}
SRUN = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    ("environment", "number", "of", "source"),
    [
        ({}, 1, 1, ""),
        (TORCHRUN, 3, 5, "RANK and WORLD_SIZE (torchrun)"),
        (ARRAY, 3, 3, "SLURM_ARRAY_TASK_ID"),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_STEP": "2"}, 3, 3, "array"),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "17"}, 2, 3, "array"),  # an array with holes
        (SRUN, 2, 2, "SLURM_PROCID and SLURM_NTASKS (srun)"),
        (TORCHRUN | SRUN, 3, 5, "torchrun"),  # inside srun
        (ARRAY | SRUN, 6, 6, "array) and SLURM_PROCID"),  # two processes in each of three tasks
        ({"RANK": "2"}, 1, 1, ""),  # half of the variables mean nothing
    ],
)
def test_the_environment_names_the_slice(
    environment: dict[str, str],
    number: int,
    of: int,
    source: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        assert choose_slice(None, environment) == WorkerSlice(number=number, of=of)
    assert source in caplog.text
    assert bool(source) == (f"slice {number}/{of}, from" in caplog.text)


def test_a_named_slice_takes_precedence(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert choose_slice(WorkerSlice(number=2, of=8), TORCHRUN | ARRAY) == WorkerSlice(
            number=2, of=8
        )
    assert "slice 2/8, from --slice" in caplog.text


def test_workers_of_an_array_of_launchers_hold_every_slice_once() -> None:
    slices = {
        choose_slice(
            None,
            {**ARRAY, "SLURM_ARRAY_TASK_ID": str(10 + task), "RANK": str(r), "WORLD_SIZE": "5"},
        )
        for task in range(3)
        for r in range(5)
    }
    assert {worker_slice.number for worker_slice in slices} == set(range(1, 16))


def test_a_variable_that_is_not_a_number_is_named() -> None:
    with pytest.raises(ConfigError, match=r"RANK is 'first'.*--slice 2/8"):
        choose_slice(None, {**TORCHRUN, "RANK": "first"})


@pytest.mark.parametrize("text", ["2", "2/", "a/b", "0/3", "4/3", "-1/3", "1/0"])
def test_a_slice_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"form 2/8|does not exist"):
        parse_slice(text)


@pytest.mark.parametrize("option", ["--slice", "--part"])
def test_the_recorded_command_has_no_slice(option: str) -> None:
    assert without_slice(["tiny", option, "2/8", "--store", "s"]) == ["tiny", "--store", "s"]
    assert without_slice(["tiny", f"{option}=2/8", "--store", "s"]) == ["tiny", "--store", "s"]


def test_the_earlier_name_of_the_option_is_still_accepted() -> None:
    where = ["tiny", "--nuscenes", "n", "--store", "s"]
    for option in ("--slice", "--part"):
        args = options().parse_args([*where, option, "2/8"])
        assert args.slice == WorkerSlice(number=2, of=8)
    assert options().parse_args(where).slice is None
    assert "--part" not in options().format_help()


@pytest.mark.parametrize(
    ("environment", "devices", "taken"),
    [
        ({"LOCAL_RANK": "3"}, 4, [3]),
        ({"LOCAL_RANK": "3"}, 1, []),  # the launcher shows each process only its own device
        ({"LOCAL_RANK": "3"}, 0, []),
        ({"SLURM_LOCALID": "1"}, 2, [1]),
        ({"LOCAL_RANK": "0", "SLURM_LOCALID": "1"}, 2, [0]),
        ({}, 4, []),
    ],
)
def test_the_launcher_names_the_cuda_device(
    environment: dict[str, str], devices: int, taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    choose_cuda_device(environment)
    assert chosen == taken


@pytest.mark.parametrize(
    ("processes", "devices", "taken", "said"),
    [
        (2, 1, [], "2 processes on this machine and 1 CUDA device here: up to 2 share a device"),
        (5, 2, [0, 1, 0, 1, 0], "5 processes on this machine and 2 CUDA devices here: up to 3"),
        (2, 2, [0, 1], ""),
        (2, 0, [], ""),  # on CPUs
    ],
)
def test_more_processes_than_devices_share_them_and_the_log_says_so(
    processes: int,
    devices: int,
    taken: list[int],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    with caplog.at_level(logging.INFO):
        for rank in range(processes):
            choose_cuda_device({"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)})
    assert chosen == taken
    assert len(caplog.messages) == (processes if said else 0)
    assert all(said in message for message in caplog.messages)
