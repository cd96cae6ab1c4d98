# edgeseal: everything that a person types. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/uv/bin/uv
JOBS ?= 2
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder
PYTEST_FLAGS ?=

# Where it is set, every process would compile every module anew: twice the time to start.
unexport PYTHONDONTWRITEBYTECODE

# What the host must have: the sandbox of the build tools; everything else comes from locked trees.
HOST_PACKAGES := bubblewrap
# What only the tests need from it: software tokens, a scanner, the kernel's packet filter from outside, a stranger's
# verifier of logs and an agent for its witness.
TEST_PACKAGES := golang-go golang-golang-x-mod-dev iproute2 nftables nmap openssh-client openssl softhsm2

# What updates are measured against.
BENCH_PACKAGES := casync zchunk zstd

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/installed  ## install what is missing: host packages, Python packages by hash, this project

.PHONY: demo
demo: setup  ## build virtual-x86_64, boot it in QEMU and watch its verdicts arrive
	@$(BIN)/edgeseal demo

# Of each property a fifth of the examples: `make test` tries all of them.
.PHONY: check
check: setup static  ## format, lint, types, unit, property and golden tests; no root, no network
	@$(PYTEST) --hypothesis-profile=quick $(PYTEST_FLAGS) tests/unit tests/property tests/golden

.PHONY: integration
integration: setup test-packages $(VENV)/judges/installed  ## real tools, brokers and namespaces on this machine
	@$(PYTEST) $(PYTEST_FLAGS) tests/integration

.PHONY: vm
vm: setup  ## images booted in QEMU
	@$(PYTEST) $(PYTEST_FLAGS) tests/vm

.PHONY: vm-cuts
vm-cuts: setup  ## power cuts of a recorded update, and 16 of them really booted
	@EDGESEAL_BOOTED_CUTS=16 $(PYTEST) $(PYTEST_FLAGS) tests/vm/test_power_cuts.py

.PHONY: chaos
chaos: setup test-packages  ## 200,000 messages through an uplink that is killed 100 times on a link that breaks; prints its counts
	@EDGESEAL_CHAOS_MESSAGES=200000 EDGESEAL_CHAOS_KILLS=100 EDGESEAL_CHAOS_ROUNDS=5 EDGESEAL_CHAOS_RATE=600 $(BIN)/pytest -n0 $(PYTEST_FLAGS) \
	  tests/integration/uplink/test_chaos.py

.PHONY: test
test: setup test-packages $(VENV)/judges/installed static  ## all of them, in one session
	@$(PYTEST) $(PYTEST_FLAGS) tests

.PHONY: static
static: setup
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff --quiet .; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary

.PHONY: golden
golden: setup  ## rewrite the golden files; the diff is the review
	@$(BIN)/pytest -q --rewrite-golden tests/unit tests/golden tests/integration/build/test_listing.py

.PHONY: bench
bench: setup  ## time the build, the network proof and its packets, the uplink; count what updates fetch, beside other tools
	@$(BIN)/python -m benchmarks.build
	@$(BIN)/python -m benchmarks.network_prove
	@$(BIN)/python -m benchmarks.audit
	@.ci/host-packages $(TEST_PACKAGES) $(BENCH_PACKAGES)
	@$(BIN)/python -m benchmarks.network_cost
	@$(BIN)/python -m benchmarks.update_delta
	@$(BIN)/python -m benchmarks.uplink_bytes
	@$(BIN)/python -m benchmarks.uplink

.PHONY: lock
lock: setup  ## choose the newest Python packages that pyproject.toml allows
	$(UV) pip compile pyproject.toml --extra dev --upgrade --generate-hashes --no-emit-index-url \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --quiet -o requirements.lock
	$(UV) pip compile requirements-bootstrap.in --generate-hashes --no-emit-index-url \
	  --python-version 3.11 --quiet -o requirements-bootstrap.lock
	$(UV) pip compile requirements-judges.in --no-deps --upgrade --generate-hashes --no-emit-index-url \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --quiet -o requirements-judges.lock

.PHONY: clean
clean:  ## remove what `make` made in this directory; the cache in your home stays
	rm -rf $(VENV) out dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: test-packages
test-packages:
	@.ci/host-packages $(TEST_PACKAGES)

# ---- setup, in steps that are done once

$(VENV)/bin/python:
	@packages=$$(.ci/python-packages $(PYTHON)); .ci/host-packages $(HOST_PACKAGES) $$packages
	@echo "setup: a virtual environment in $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)

$(UV): requirements-bootstrap.lock | $(VENV)/bin/python
	@echo "setup: uv, by hash" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --upgrade \
	  --require-hashes --target $(VENV)/uv -r requirements-bootstrap.lock
	@touch $@

# uv does not read pip's configuration: where the package index is set there and nowhere else, pip does the work.
$(VENV)/installed: requirements.lock pyproject.toml | $(UV)
	@echo "setup: Python packages, by hash" >&2
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --only-binary :all: requirements.lock || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
	    --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline --editable .
	@touch $@

# pip does it, as for uv: a folder of its own, which only the processes see that are told of it.
$(VENV)/judges/installed: requirements-judges.lock | $(VENV)/bin/python
	@echo "setup: what judges our messages, by hash" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --upgrade \
	  --require-hashes --target $(VENV)/judges -r requirements-judges.lock
	@touch $@
