# mqtt-fleet. `make` lists what there is. Options for a program: make demo ARGS="--for 45 -o json".
# Another Python: make setup PYTHON=python3.12.
.POSIX:

PYTHON = python3
VENV = .venv
ARGS =

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
PINS = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make pins" pyproject.toml requirements/build.in

.PHONY: help setup demo check test bench topics pins clean

help: ## List the targets (this is the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.dev ## Make the virtual environment with everything developers need

demo: $(VENV)/.server ## Start everything with 25 simulated devices; Ctrl-C ends it
	@$(BIN)/fleet demo $(ARGS)

check: $(VENV)/.dev ## Lint, format, types, generated files and house rules: under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/topics.py --check
	$(BIN)/pytest -q tests/house

test: $(VENV)/.dev ## Install what the tests need and run all of them
	@tests/setup.sh
	$(BIN)/pytest --durations 15 $(ARGS)

bench: $(VENV)/.dev ## Measure heartbeats per second on Mosquitto
	@tests/setup.sh
	$(BIN)/python -m bench $(ARGS)

topics: $(VENV)/.dev ## Write topics.md and docs/asyncapi.json from the contract
	$(BIN)/python tools/topics.py

pins: $(VENV)/.dev ## Resolve the requirements anew and pin them with hashes
	$(PINS) --upgrade --extra server --output-file requirements/server.txt
	$(PINS) --upgrade --extra server --group dev --constraint requirements/server.txt \
		--output-file requirements/dev.txt

clean: ## Remove what make has made: the virtual environment, caches, builds
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf tests/timescale/node_modules tests/asyncapi/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a file in the virtual environment says what it was filled with, and when.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is not installed; Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is too old; Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.server: $(VENV)/.made requirements/server.txt pyproject.toml
	$(PIP) install --require-hashes --requirement requirements/server.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.server requirements/dev.txt
	$(PIP) install --require-hashes --requirement requirements/dev.txt
	@touch $@
