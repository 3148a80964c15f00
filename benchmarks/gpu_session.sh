#!/usr/bin/env bash
# Everything that is waiting for a GPU, each step within its own time limit; results and logs in OUT.
#
#   benchmarks/gpu_session.sh                                # 14 minutes on an H200
#   STEPS="extraction tests" benchmarks/gpu_session.sh       # the first 6
#   QUICK=--quick benchmarks/gpu_session.sh                  # a rehearsal on any CPU
#
# PYTHON (.venv/bin/python), OUT (runs/gpu_session), SCRATCH (/dev/shm) and REAL
# (../shared/nuscenes_real: without it frames are synthetic) may be set. A step that fails or runs out of time does not end the others.
set -u
PYTHON=${PYTHON:-.venv/bin/python}
OUT=$(mkdir -p "${OUT:-runs/gpu_session}" && cd "${OUT:-runs/gpu_session}" && pwd)
REAL=${REAL:-../shared/nuscenes_real}
QUICK=${QUICK:-}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

step() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    [[ " ${STEPS:-$name} " == *" $name "* ]] || return 0
    timeout -k 5 "$limit" "$@" >"$OUT/$name.log" 2>&1
    echo "== $name: status $?, $((SECONDS - began)) s"
    tail -n 25 "$OUT/$name.log"
}

# Into files in memory, so that the disk does not count; a combination takes some 45 s.
TMPDIR=${SCRATCH:-/dev/shm} step extraction 240 "$PYTHON" -m benchmarks.speed.extraction \
    --processes 1 2 --workers 16 --passes 2 --minutes 3.5 --real "$REAL" \
    --json "$OUT/extraction_gpu.json" $QUICK
# A machine lent for minutes may have other versions of packages, which warn, and no Ray.
step tests 150 "$PYTHON" -m pytest -q -n 8 -m gpu --tb=short -o addopts= \
    -o filterwarnings=default --import-mode=importlib --ignore tests/stage1_extract/cluster
step loaders 130 "$PYTHON" -m benchmarks.speed.loaders $QUICK
step gpu 290 "$PYTHON" -m benchmarks.speed.gpu --presets r50_800x320 --minutes 4.5 \
    --sections attention start live loader --json "$OUT/gpu.json" $QUICK
cp benchmarks/results/loaders.json docs/speed.md "$OUT/"
