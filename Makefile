# Corral from a clone. `make` alone lists the targets.
#
#   make serve [PORT=9000] [HOST=0.0.0.0] [REGISTRY=path.yaml] [BUILD=cpu|gpu] [PYTHON=python3.12]
#
# Only variables given to make itself count (HOST and PORT are too common in environments); for the
# environment there are CORRAL_PORT, CORRAL_HOST, CORRAL_REGISTRY, CORRAL_CACHE_DIR, CORRAL_API_KEY.

MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help serve test check bench lock clean install install-dev install-train

# Set here, so that the environment's values are overridden and the command line's are not.
PYTHON   := python3
BUILD    := auto
PORT     :=
HOST     :=
REGISTRY :=
FAST     :=
ARGS     :=

bin     := .venv/bin
flags   := $(if $(PORT),--port '$(PORT)') $(if $(HOST),--host '$(HOST)') \
           $(if $(REGISTRY),--registry '$(REGISTRY)')
require := command -v '$(PYTHON)' >/dev/null || { \
    echo 'corral: $(PYTHON) is not there. Run: apt-get install python3 python3-venv' >&2; exit 1; }

help: ## this list
	@echo 'make TARGET'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
	    printf '  %-13s %s\n' "$$name" "$$text"; done

install:
	@$(require)
	@'$(PYTHON)' -m scripts.install --build $(BUILD)
	@'$(PYTHON)' -m scripts.build_web

install-dev:
	@$(require)
	@'$(PYTHON)' -m scripts.install --build $(BUILD) --dev --train
	@'$(PYTHON)' -m scripts.build_web --dev

install-train: ## install what `corral train` needs besides
	@$(require)
	@'$(PYTHON)' -m scripts.install --build $(BUILD) --train

serve: install ## install what is missing, bring the default model, serve (PORT= HOST= REGISTRY= BUILD=)
	@exec $(bin)/corral serve $(strip $(flags))

test: install-dev ## every test; FAST=1 leaves out what needs the real engine; ARGS= for pytest
	@exec $(bin)/python -m pytest $(if $(FAST),-m 'not e2e') $(ARGS)

check: install-dev ## ruff, mypy --strict, import-linter
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@$(bin)/mypy
	@$(bin)/lint-imports

bench: install-dev ## Corral beside vLLM's own server; ARGS= for the benchmark
	@exec $(bin)/python -m benchmarks $(ARGS)

lock: install-dev ## resolve requirements/*.txt from pyproject.toml; UPGRADE=1 takes the newest
	@$(bin)/python -m pip install --quiet 'uv>=0.13'
	@UPGRADE=$(UPGRADE) sh scripts/lock.sh

clean: ## remove the virtual environment, the built page and what tools left behind; models stay
	rm -rf .venv build dist server/web/static *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
