#!/usr/bin/env bash
# Create .venv with everything (extraction, training, evaluation, development), or do nothing if it is
# there already: a stamp holds the digest of what was asked for. mmcv is built from source once (7 to 10
# minutes on two cores) and its wheel kept in the user's cache for the next environment.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
wanted=$(cat env/constraints.txt env/install.sh env/build_mmcv.py pyproject.toml | sha256sum | cut -c1-16)
stamp=$venv/frozen-cmt-$wanted
[ -e "$stamp" ] && exit 0

python=${PYTHON:-}
for candidate in python3.11 python3; do
  [ -n "$python" ] && break
  if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    python=$candidate
  fi
done
if [ -z "$python" ]; then
  echo "env: Python 3.11 was not found (mmdet3d 1.4.0 and its friends are pinned to it)." >&2
  echo "env: install it, or name it: make env PYTHON=/path/to/python3.11" >&2
  exit 1
fi

echo "env: creating $venv with $("$python" --version); a minute, and 7 to 10 more the first time (mmcv)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip="$venv/bin/pip --disable-pip-version-check"
# torch first and by its exact version: a range may bring another build with gigabytes of CUDA.
$pip install -q -c env/constraints.txt torch==2.13.0 numpy 'setuptools<81' wheel ninja psutil

echo "env: mmcv 2.1.0 with its CPU ops"
wheels=$("$venv/bin/python" env/build_mmcv.py)
echo "env: everything else"
$pip install -q -c env/constraints.txt --find-links "$wheels" --no-build-isolation -e '.[extract,evaluate,dev]'
$venv/bin/python -c 'import mmcv.ops, mmdet3d, spconv' 2>/dev/null || {
  echo "env: mmcv, mmdet3d or spconv does not import; remove $wheels and $venv and run again" >&2
  exit 1
}
rm -f "$venv"/frozen-cmt-*
touch "$stamp"
echo "env: ready"
