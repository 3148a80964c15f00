#!/usr/bin/env bash
# Everything that is waiting for a GPU, what decides first, each step within its own time limit.
#
#   benchmarks/gpu_session.sh                                # 12 minutes on an H100 or H200
#   STEPS="extraction tests" benchmarks/gpu_session.sh       # the first 6
#   STEPS="gpu loaders" benchmarks/gpu_session.sh            # the other 6
#   QUICK=--quick benchmarks/gpu_session.sh                  # a rehearsal on any CPU
#
# OUT gets extraction_gpu.json and loaders_gpu.json, rewritten whenever a case ends, and gpu.json, rewritten whenever a
# section ends or is cut off, so that a step that runs out of time has lost one case; NAME.log of each step, in gpu.log
# every row of gpu.json as soon as it is measured; summary.txt, what the steps printed last, and first of all whether
# extraction meets its goal.
#
# PYTHON (.venv/bin/python), OUT (runs/gpu_session), SCRATCH (/dev/shm; 17 GB there) and REAL (../shared/nuscenes_real:
# without it frames are synthetic) may be set. A step that fails or runs out of time does not end the others.
set -u
PYTHON=${PYTHON:-.venv/bin/python}
OUT=$(mkdir -p "${OUT:-runs/gpu_session}" && cd "${OUT:-runs/gpu_session}" && pwd)
REAL=${REAL:-../shared/nuscenes_real}
QUICK=${QUICK:-}
[[ -z $QUICK ]] || export OMP_NUM_THREADS=1 # on busy cores threads would wait for each other
SHOWN=30 # of a log that are shown at the end of its step
scratch=$(mktemp -d -p "${SCRATCH:-/dev/shm}" gpu_session.XXXXXX)
trap 'rm -rf "$scratch"' EXIT # also what a step leaves that is killed
export TMPDIR=$scratch PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

step() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    [[ " ${STEPS:-$name} " == *" $name "* ]] || return 0
    timeout -k 5 "$limit" "$@" >"$OUT/$name.log" 2>&1
    {
        echo "== $name: status $?, $((SECONDS - began)) of $limit s"
        grep -h "^\*\*Goal" "$OUT/$name.log"
        tail -n "$SHOWN" "$OUT/$name.log"
    } | tee -a "$OUT/summary.txt"
    rm -rf "${scratch:?}"/*
}

# Memory that a virtual machine has never used takes ten times as long as memory that was used before, 20 ms for a row of
# r50_800x320 (LOG.md, 2026-11-27): what the stores will take is used once.
use_memory() {
    local number
    for number in 1 2 3 4 5 6 7 8; do
        head -c 2200M /dev/zero >"$scratch/used_$number" &
    done
    wait
    rm -f "$scratch"/used_*
}
[[ -n $QUICK || " ${STEPS:-extraction} " != *" extraction "* ]] || use_memory

# Batches of 8 in one process decide; then two processes, batches of 4, and the stages. Files are in memory, so that the
# disk does not count; a combination takes some 45 s. Importing and ending what is cut off take the time between the limits.
step extraction 240 "$PYTHON" -m benchmarks.speed.extraction \
    --batch-size 8 4 --processes 1 2 --workers "$(env -u OMP_NUM_THREADS nproc)" --passes 2 --minutes 3 --real "$REAL" \
    --json "$OUT/extraction_gpu.json" $QUICK
# Names appear as tests end, also of a step that is cut off. A machine lent for minutes may have other versions of packages, which warn, and no Ray.
step tests 130 "$PYTHON" -m pytest -v -n 8 -m gpu --tb=short -o addopts= \
    -o filterwarnings=default --import-mode=importlib --ignore tests/stage1_extract/cluster
step gpu 200 "$PYTHON" -m benchmarks.speed.gpu --presets r50_800x320 --minutes 3 \
    --sections attention start live --json "$OUT/gpu.json" $QUICK
step loaders 110 "$PYTHON" -m benchmarks.speed.loaders --json "$OUT/loaders_gpu.json" $QUICK
