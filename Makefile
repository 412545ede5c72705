# `make demo` sets up and runs the loop; `make test` sets up and runs the checks. See README.md.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# uv does not read pip's settings: pass on a folder of wheels where pip has one.
# UV_TORCH_BACKEND=cpu (or cu128, auto, ...) chooses torch's build.
export UV_FIND_LINKS ?= $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
# Trust what the system trusts, as pip does: behind a proxy of a company this is its own authority.
export UV_SYSTEM_CERTS ?= true
# A module's tests stay together, since they share what is slow to start.
PARALLEL ?= --numprocesses auto --maxprocesses 8 --dist loadfile

SERVICES := postgresql haproxy chromium prometheus prometheus-alertmanager

.PHONY: demo test test-slow peers services audit sbom check format repro lock clean
.DEFAULT_GOAL := demo

demo: .venv/installed  ## the whole loop; DATA=folder for a public dataset
	@$(BIN)/python -m flows.demo $(if $(DATA),--data "$(DATA)")

test: .venv/installed check  ## lint, types and all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-slow: .venv/installed  ## the rest: whole loops, learning over seeds, faults of running systems
	$(BIN)/python -m pytest -m slow

peers: .venv/installed  ## the Open Bandit Pipeline, beside which tests and benchmarks are run; it asks for Python 3.10
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
	  obp==0.5.7 seaborn==0.13.2

services:  ## Debian's or Ubuntu's packages of what the tests start beside us; tests that need one skip without
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get -qq update && apt-get -qq install -y --no-install-recommends $(SERVICES) >/dev/null \
	  || echo "$(SERVICES): cannot be installed, their tests skip" >&2; fi

audit: .venv/installed  ## known vulnerabilities of what is locked, and reports/sbom.json
	@$(BIN)/python -m infra.audit

sbom: .venv/installed  ## the bill alone
	@$(BIN)/python -m infra.audit --bill

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

repro: .venv/installed  ## the offline half alone
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "recloop needs Python 3.11, but $(PYTHON) is $$($(PYTHON) -V). Run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	@touch $@

lock:  ## resolve anew what pyproject.toml asks for
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --upgrade --output-file requirements.lock
	$(BIN)/uv pip compile infra/slot-requirements.in --constraint requirements.lock --python-version 3.11 \
	  --no-annotate --no-header --output-file infra/slot-requirements.txt
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock

clean:  ## what the loop made; the virtual environment stays
	rm -rf var data models reports .dvc/cache .dvc/tmp
