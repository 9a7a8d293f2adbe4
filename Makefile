# make demo   install what running needs, then show one activity from words to motion
# make up     start the whole system and keep it up (HTTP on port 8000)
# make test   everything that must pass
# make check  format, lint, types, import contracts, stub diff, deploy files, tests
# make learn-smoke  the whole road of learning on a toy size: data, training, export, evaluation
# make clean  remove what the targets above made

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
ACTIVITY ?= make coffee

# What learning needs of torch; may name another build or index.
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

RUN_MEMBERS := libs/contracts[video] libs/servicekit[valkey] services/videogen[demonstrator,learned] \
  services/policy[cpu] services/orchestrator robot_client[sim] sim demo
DEV_MEMBERS := learning
SOURCES := libs services robot_client sim learning demo benchmarks tests docs
# Needed by EGL off-screen rendering; the same list is in sim/gen2act_sim/gl.py and deploy/*.Dockerfile.
RENDERING_PACKAGES := libegl1 libgl1-mesa-dri libgles2
RENDERING_CHECK := python -c 'from gen2act_sim import World; World("coffee", 0).observe()'

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# "compat" puts plain paths on sys.path, which type checkers can follow.
EDITABLE := --config-settings editable_mode=compat

.PHONY: help
help:
	@sed -n '1,6s/^# //p' Makefile

# ---- installing: one stamp file per step, redone when its inputs change ------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  deploy/system_packages.sh "python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

MEMBER_FILES := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml \
  robot_client/pyproject.toml sim/pyproject.toml demo/pyproject.toml)

$(VENV)/.run.stamp: $(MEMBER_FILES) constraints.txt | $(BIN)/python
	@echo "installing what running needs (about a minute)"
	@$(PIP_INSTALL) $(EDITABLE) $(foreach member,$(RUN_MEMBERS),-e './$(member)')
	@touch $@

$(VENV)/.dev.stamp: dev-requirements.txt $(VENV)/.run.stamp
	@echo "installing what checking needs"
	@$(PIP_INSTALL) -r dev-requirements.txt
	@touch $@

# Only learning and its tests use torch; no service may.
$(VENV)/.learn.stamp: learning/pyproject.toml $(VENV)/.dev.stamp
	@echo "installing what learning needs (torch)"
	@$(PIP_INSTALL) $(TORCH)
	@$(PIP_INSTALL) $(EDITABLE) $(foreach member,$(DEV_MEMBERS) $(RUN_MEMBERS),-e './$(member)')
	@touch $@

$(VENV)/.rendering.stamp: $(VENV)/.run.stamp
	@$(RENDERING_CHECK) 2>/dev/null || \
	  { deploy/system_packages.sh $(RENDERING_PACKAGES) && $(RENDERING_CHECK); }
	@touch $@

.PHONY: install
install: $(VENV)/.run.stamp $(VENV)/.rendering.stamp

# ---- running ----------------------------------------------------------------------------------

.PHONY: demo up evaluate
demo: install
	@python -m gen2act_demo run --activity "$(ACTIVITY)" $(if $(SEED),--seed $(SEED))

up: install
	@honcho start

# make evaluate ACTIVITY="make coffee" SEEDS=100-119
SEEDS ?= 100-119
evaluate: install
	@python -m gen2act_demo evaluate --activity "$(ACTIVITY)" --seeds $(SEEDS) \
	  $(if $(NAME),--name $(NAME))

# ---- checking ---------------------------------------------------------------------------------

.PHONY: check static format lint types imports stubs deploy-lint test
check: static test

static: format lint types imports stubs deploy-lint

format: $(VENV)/.dev.stamp
	ruff format --check $(wildcard $(SOURCES))

lint: $(VENV)/.dev.stamp
	ruff check $(wildcard $(SOURCES))

types: $(VENV)/.learn.stamp
	mypy

imports: $(VENV)/.learn.stamp
	lint-imports

stubs: $(VENV)/.dev.stamp
	python -m gen2act_contracts.regenerate --check

deploy-lint: $(VENV)/.dev.stamp
	check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.gpu.yml
	hadolint --config deploy/hadolint.yaml deploy/*.Dockerfile

test: install $(VENV)/.learn.stamp
	python -m pytest

# ---- learning ---------------------------------------------------------------------------------

# Too little of everything to learn anything: every command runs and hands its work to the next.
SMOKE := .data/learn-smoke
.PHONY: learn-smoke
learn-smoke: install $(VENV)/.learn.stamp
	rm -rf $(SMOKE)
	gen2act-data demos --tasks drawer-open,drawer-close --episodes 6 --out $(SMOKE)/demos
	gen2act-train --data $(SMOKE)/demos --out $(SMOKE)/run --minutes 0.5
	gen2act-export --run $(SMOKE)/run --out $(SMOKE)/bundle --data $(SMOKE)/demos --gate-steps 50
	gen2act-eval suite --bundle $(SMOKE)/bundle --suite seen --only drawer-open,drawer-close \
	  --video demonstrator shuffled --episodes 1 --out $(SMOKE)/eval

# ---- keeping ----------------------------------------------------------------------------------

# Rewrites constraints.txt: the versions everything was last checked with.
.PHONY: lock
lock: $(VENV)/.learn.stamp
	@{ echo "# Versions that 'make check' last passed with; rewritten by 'make lock'."; \
	   $(BIN)/python -m pip freeze --exclude-editable | grep -v '^torch=='; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt

.PHONY: clean
clean:
	rm -rf $(VENV) .data demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
