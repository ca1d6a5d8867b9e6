# Each target does all the set-up it needs: a virtual environment in .venv, pinned by constraints.txt.
PYTHON ?= python3
# Test processes; each computes in one thread.
PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: help install demo study-dense study-vista test test-slow test-crash gpu lint types docs clean

help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## The virtual environment with everything in it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vidpref needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,wandb,trl,label]'
	@touch $@

demo: $(STAMP) ## Toy world: shards, VistaDPO and DPO fits, hallucination table, runs/demo/report.html
	$(BIN)/python -m benchmarks.toy.demo --output runs/demo

study-dense: $(STAMP) ## DenseDPO on the toy world: conditions, methods and controls on three seeds, runs/study-dense
	$(BIN)/python -m benchmarks.toy.study_dense --output runs/study-dense

study-vista: $(STAMP) ## VistaDPO, DPO and SFT on a language prior, three seeds, runs/study-vista/vista.md
	$(BIN)/python -m benchmarks.toy.study_vista --output runs/study-vista

test: $(STAMP) ## The tests a person runs before a commit
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(PROCESSES) --dist loadfile

test-slow: $(STAMP) ## Kill and resume, two processes, whole benchmark runs, the demo
	$(BIN)/python -m pytest -m slow --numprocesses $(PROCESSES) --dist loadfile

test-crash: $(STAMP) ## Kill every command at every fsync, rename and removal, and run it again (a quarter of an hour)
	VIDPREF_CRASH_POINTS=all $(BIN)/python -m pytest tests/test_crash_points.py

gpu: $(STAMP) ## What only a GPU can show, in ten minutes, runs/gpu/gpu.md (DRY=1: every part at a small size on a CPU)
	$(BIN)/python -m benchmarks.gpu $(if $(DRY),--dry-run)

lint: $(STAMP) ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

# The generator is no part of `make install`: no other target needs it.
$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(DOCS_STAMP) ## The documentation as a site, every internal link checked, build/docs/index.html
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs build/docs

clean: ## Remove what is made: environment, runs, site, caches
	rm -rf $(VENV) runs build docs/api .mypy_cache .ruff_cache .pytest_cache .hypothesis
