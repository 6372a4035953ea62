# setup: environment · demo: everything, once · test: lint, types, import rule, tests · dev: the UI
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/sample.yaml

.PHONY: setup demo test test-slow lint dev
.DEFAULT_GOAL := demo

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or give one, make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/python -m assets_defs.demo --config $(CONFIG)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -m "not slow"

test-slow: lint
	$(BIN)/pytest

dev: setup
	SPEECH_AVATAR_CONFIG=$(CONFIG) $(BIN)/python -m assets_defs.demo --config $(CONFIG) --serve
