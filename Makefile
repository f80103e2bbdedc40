# What a newcomer needs: `make demo` and `make test`. Python 3.11 or newer and make are all that must be there.

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
INPUTS := setup.cfg pyproject.toml
SOURCES := edf_schema.sql $(shell find agent scripts monitors alert_templates -type f ! -name '*.pyc' ! -path '*/clients/*')
TESTS ?= tests

.PHONY: help demo demo-user test check peers bench clean

help:
	@echo "make demo    show a whole offboarding on this machine, in the folder .demo"
	@echo "make demo-user  a person leaves a Microsoft 365 tenant of the tests, in the folder .demo-user"
	@echo "make test    install what the tests need, check the code, run all tests"
	@echo "make check   lint and types only"
	@echo "make bench   measure, side by side with what else one would use"
	@echo "make clean   remove the environment and everything that was made"

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then echo "error: Python 3.11 or newer is needed, as python3 or by PYTHON=/path/to/python3" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) cannot make environments: install its package venv (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

# What a user gets: the command and its libraries. An environment that tests have made holds it already.
$(VENV)/.installed: $(BIN)/python $(INPUTS) $(SOURCES)
	@if [ -e $(VENV)/.test ]; then :; else \
		echo "installing exeunt into $(VENV) ..."; $(PIP) install --quiet --upgrade .; fi
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/exeunt demo --workspace .demo/workspace --fresh

demo-user: $(VENV)/.test
	$(BIN)/python tests/microsoft/demo_user.py .demo-user

$(VENV)/.test: $(BIN)/python $(INPUTS)
	$(PIP) install --quiet --editable '.[test,postgresql,keyring,web]'
	@touch $@

# Compiled, a minute long: tests need no optimisation. Where it cannot be, its tests are skipped and say why; in CI they fail.
$(VENV)/.kerberos: $(VENV)/.test
	@echo "compiling the extra kerberos ..."
	@if CFLAGS='-O0 -g0' $(PIP) install --quiet --editable '.[kerberos]' >$(VENV)/kerberos.log 2>&1; then touch $@; \
		else echo "it cannot be compiled here, see $(VENV)/kerberos.log: it needs gcc, libkrb5-dev and python3-dev" >&2; fi

peers:
	sh tests/install_peers.sh

check: $(VENV)/.test
	$(BIN)/ruff check agent tests
	$(BIN)/mypy

# Each of the two takes half of the folders, so that a domain, a browser or a vendor's contract is made ready once and not
# twice; who has ended helps the other.
test: $(VENV)/.test peers $(VENV)/.kerberos check
	$(BIN)/pytest -n 2 --dist worksteal $(TESTS)

bench: $(VENV)/.test
	@if [ -f benchmarks/run.py ]; then $(BIN)/python benchmarks/run.py; else echo "there are no benchmarks here" >&2; exit 1; fi

clean:
	rm -rf $(VENV) .demo .demo-user .bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
