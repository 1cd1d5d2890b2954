# Works with Python 3.11, pip, g++ and make; cmake and ninja come from the package index if missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Newer pips build packages under their own list of pins; older ones ignore that variable.
PINNED := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(PINNED) $(BIN)/python -m pip
BUILD_INPUTS := pyproject.toml constraints.txt CMakeLists.txt $(wildcard kernels/*)

# `make up PORT=8411` becomes `tokenworks up --port 8411`. Only variables given on make's own command
# line count: a HOST that the shell happens to export must not open the factory to the network.
given = $(if $(filter command,$(origin $(1))),--$(2) '$($(1))')
UP_FLAGS = $(call given,HOST,host) $(call given,PORT,port) $(call given,MODEL,model) \
	$(call given,ISA,isa) $(call given,THREADS,threads) $(call given,EXECUTOR,executor) \
	$(call given,WEIGHTS,weights) $(call given,KV_FORMAT,kv-format) $(call given,CONFIG,config) \
	$(call given,API_KEY_FILE,api-key-file) $(call given,CONTEXT_LENGTH,context-length) \
	$(call given,KV_MEMORY_MB,kv-memory-mb) $(call given,PREFIX_CACHE_DIR,prefix-cache-dir) \
	$(call given,SPECULATION,speculation) $(call given,DRAFT_MODEL,draft-model) $(call given,STALL_MS,stall-ms) \
	$(call given,POLICIES,policies)

.PHONY: help up test check fix wheel bench peers soak system-deps clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(VENV)/installed  ## install into .venv and start the factory here (PORT= HOST= MODEL= ...)
	@exec $(BIN)/tokenworks up $(UP_FLAGS)

test: $(VENV)/installed-for-tests check  ## format, lint, types, import contract, tests: what CI runs
	$(BIN)/python -m pytest $(PYTEST)

check: $(VENV)/installed-for-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/installed-for-tests  ## format and repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/installed-for-tests  ## build sdist and wheel into dist/
	$(PINNED) $(BIN)/python -m build --outdir dist .

bench: $(VENV)/installed-for-tests  ## measure an area, e.g. AREA=inference
	@exec $(BIN)/python benchmarks/$(call area).py

peers: $(VENV)/installed-for-tests  ## install what an area is compared with, into .peers/
	@exec $(BIN)/python benchmarks/$(call area).py --install-peers

soak: $(VENV)/installed-for-tests  ## an area's tests at full length, e.g. AREA=inference
	TOKENWORKS_SOAK=1 $(BIN)/python -m pytest --timeout=3600 tests/$(call area)

area = $(or $(AREA),$(error say which area, e.g. make $@ AREA=inference))

system-deps:  ## Debian packages for the whole test suite: compiler, browser
	@.ci/system-deps

clean:  ## remove what make made here (the state folder with the models stays)
	rm -rf $(VENV) .peers build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is not Python 3.11 or newer" >&2; \
		echo "hint: make up PYTHON=python3.11" >&2; exit 1; }
	@command -v g++ >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null \
		|| { echo "error: no C++ compiler found" >&2; echo "hint: make system-deps" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BUILD_INPUTS) | $(BIN)/python
	$(PIP) install --quiet --editable .
	@touch $@

# Its own list of pins is whole: ours would ask for another openai.
$(VENV)/installed-for-tests: $(BUILD_INPUTS) tests/openai-2.txt | $(BIN)/python
	$(PIP) install --quiet --editable '.[test]'
	@rm -rf $(VENV)/openai-2
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/openai-2 \
		--requirement tests/openai-2.txt
	@touch $(VENV)/installed $@
