# The two commands of the README are `make demo` and `make test`; both build on `make setup`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup demo test test-core test-bridges test-slow lint types docs wheel benchmark side-by-side peers train-denoiser clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "recon needs Python >= 3.11; this is %s: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

# One thread: a second one on a shared core that is busy makes OpenMP wait many times longer than it saves.
demo: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/recon demo --output demo-out

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope

test-core: setup
	RECON_PLUGINS= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope tests/core --deselect tests/core/test_cli.py --deselect tests/core/test_cli_choices.py

# Installs the bridged libraries into .venv (torch stays as it is); there a test that misses one fails.
test-bridges: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/bridges/requirements.txt
	RECON_REQUIRE_BRIDGES=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope tests/bridges

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The site in site/. It runs the code of its pages and the examples, those that have changed; DOCS_RUN=0 runs none.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: setup
	PYTHON=$(BIN)/python bash tests/smoke_wheel.sh

peers: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements-peers.txt
	test -x .venv-scico/bin/python || $(PYTHON) -m venv .venv-scico
	.venv-scico/bin/python -m pip install --quiet --disable-pip-version-check scico==0.0.7

# The libraries side by side; about ten minutes on one core that is free.
side-by-side: peers
	cd benchmarks && OMP_NUM_THREADS=1 ../$(BIN)/python -W ignore side_by_side.py --json results/side_by_side.json

benchmark: side-by-side
	cd benchmarks && for name in projectors cone automatic_weight plug_and_play multi_coil same_objective ray_weights; do \
	    ../$(BIN)/python -W ignore $$name.py --json results/$$name.json || exit 1; done
	cd benchmarks && ../$(BIN)/python -W ignore projectors.py --geometry fan --json results/projectors_fan.json
	OMP_NUM_THREADS=1 $(BIN)/recon benchmark ellipses --json > benchmarks/results/.ellipses && mv benchmarks/results/.ellipses benchmarks/results/ellipses.json

train-denoiser: setup  # IMAGES=folder of the files that the script names; half an hour on one core
	OMP_NUM_THREADS=1 $(BIN)/python examples/experiments/train_denoiser.py $(IMAGES) $(or $(OUTPUT),drunet)

clean:
	rm -rf $(VENV) .venv-scico dist build demo-out site .cache
