# The two commands of the README are `make demo` and `make test`; both set up what is missing.
# PYTHON=python3.12 chooses the Python of .venv, 3.11 or 3.12; without it, that of the present one stays.

SHARED ?= ../shared
RUN = .venv/bin/python
# One process per core; threads of torch in each would only get in the way of the others.
TEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist worksteal

.PHONY: help env demo test check real clean

help:
	@echo "make demo   synthetic nuScenes, extraction, training, evaluation, parity, pictures"
	@echo "make test   the default test suite"
	@echo "make check  ruff, types, layers, tests"
	@echo "make real   the main job on the real frames in $(SHARED)/nuscenes_real"

env:
	@env/install.sh

demo: env
	$(RUN) -m examples.demo

test: env
	$(TEST)

check: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(TEST)

real: env
	$(RUN) -m examples.real_frames $(SHARED)/nuscenes_real

clean:
	rm -rf runs build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
