# Two commands for everyone: `make demo` and `make test`. Each builds its environment when that is missing or stale.
#   make test PYTHON=python3.12                 another interpreter
#   make test PYTEST_ARGS="tests/passes -x"     fewer tests, in one process
#   make triton-test VERSION=3.6.0              another Triton than the pinned one, for the GPU kernels
#   make test VENV=somewhere                    another environment (a path without spaces)
# pip's own settings apply: set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to get another build of torch.

PYTHON      ?= python3
VENV        ?= .venv
PYTEST_ARGS ?= -n auto --maxprocesses 8 --durations=60 --durations-min=4
VERSION     ?= 3.6.0

BIN   := $(VENV)/bin
STAMP := $(VENV)/stamp
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1
# Without bytecode every process compiles torch again, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all lint fix types house wheel-test triton-test bench docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## Train a small network on real digits and run the main job on it
	$(BIN)/sparsify demo

test: $(STAMP) ## Run the tests (several processes, so one thread for each)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: $(STAMP) ## Run the slow tests, too, before a release
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} THEOREM_MINUTES=$${THEOREM_MINUTES:-2} \
	    $(BIN)/python -m pytest -m "not gpu" $(PYTEST_ARGS)

lint: $(STAMP) ## Check style and formatting
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

fix: $(STAMP) ## Repair what lint can repair
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Type checkers do not follow the package-dir mapping of an editable install, so they get an installed copy.
# build/ goes first: setuptools would pack what an earlier build left in build/lib.
types: $(STAMP) ## Check types (strict)
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target build/typecheck .
	python=$$(cd $(BIN) && pwd)/python && cd build/typecheck && \
	    "$$python" -m mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p sparsify

house: $(STAMP) ## Check the house rules: layout, sizes, imports, docstrings
	$(BIN)/python -m pytest tests/test_house.py

wheel-test: $(STAMP) ## Import all of the built wheel and run some tests against it, with the source tree out of reach
	bash .ci/wheel-test $(BIN)/python $(PYTEST_ARGS)

triton-test: $(STAMP) ## Test the GPU kernels with another Triton: make triton-test VERSION=3.6.0
	bash .ci/triton-test $(BIN)/python $(VERSION) $(PYTEST_ARGS)

docs: $(STAMP) ## Build the documentation into build/site; warnings are errors
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(STAMP) ## Run every benchmark behind a claim in the README
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	for script in benchmarks/[a-z]*.py; do $(BIN)/python "$$script" || exit; done

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --no-compile halves the time of the install; Python compiles what is imported, when it is.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo >&2 "sparsify needs Python 3.10 or newer, and $(PYTHON) is not: name another one with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo >&2 "$(PYTHON) has no venv module: install it (Debian: apt install python3-venv) or set PYTHON=..."; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	@touch $@
