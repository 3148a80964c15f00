#!/usr/bin/env bash
# Make .venv with everything (extraction, training, evaluation, development), unless it is up to date.
# PYTHON names the interpreter, 3.11 or 3.12; without it, that of the present .venv is preferred.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/frozen-cmt-stamp # "VERSION DIGEST" of a finished environment, empty while it is being made

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# The tables of pyproject.toml from [tool.ruff] on do not decide what is installed.
digest=$({ cat env/constraints.txt env/install.sh; sed '/^\[tool\.ruff/,$d' pyproject.toml; } |
  sha256sum | cut -c1-16)
old_version='' old_digest=''
[ ! -s "$stamp" ] || read -r old_version old_digest <"$stamp"
[ -n "${PYTHON:-}" ] || [ "$old_digest" != "$digest" ] || exit 0

candidates=("$(readlink -f "$venv/bin/python" || true)" python3.11 python3.12 python3)
[ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
python='' version=''
for candidate in "${candidates[@]}"; do
  version=$(version_of "$candidate" 2>/dev/null) || continue
  case $version in 3.11 | 3.12) python=$candidate && break ;; esac
done
if [ -z "$python" ]; then
  echo "env: ${PYTHON:-python3} is ${version:-not a Python that starts}; Python 3.11 or 3.12 is needed" >&2
  echo "env: (open3d, which mmdet3d requires, has no wheel for a newer one)." >&2
  echo "env: name one: make env PYTHON=/path/to/python3.12. To train only, any newer Python does:" >&2
  echo "env: see docs/install.md" >&2
  exit 1
fi
[ "$old_version $old_digest" != "$version $digest" ] || exit 0

if [ -e "$venv" ] || [ -L "$venv" ]; then
  if ! compgen -G "$venv/frozen-cmt-*" >/dev/null; then
    echo "env: $venv was not made by \`make env\`; move or delete it, then run again" >&2
    exit 1
  fi
  reason="what it must hold has changed"
  [ -n "$old_version" ] || reason="it is unfinished or of an earlier release"
  [ "${old_version:-$version}" = "$version" ] || reason="it has Python $old_version, not $version"
  echo "env: replacing $venv: $reason"
  rm -rf "$venv"
fi

echo "env: making $venv with Python $version; two to three minutes"
"$python" -m venv "$venv"
: >"$stamp"
"$venv/bin/python" -m pip install -q --disable-pip-version-check \
  -c env/constraints.txt -e '.[extract,evaluate,dev]'
"$venv/bin/python" -W ignore -c 'import stage1_extract.backbones.frozen, nuscenes' || {
  echo "env: the packages are installed but do not import; docs/install.md, Troubleshooting, may help" >&2
  exit 1
}
echo "$version $digest" >"$stamp"
echo "env: ready"
