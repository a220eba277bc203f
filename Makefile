# `make demo` and `make test` are all that a fresh machine needs (Python 3.11, git, make).
VENV   := .venv
PY     := $(VENV)/bin/python
PYTHON ?= python3
SERVE  ?= 1
MARKET ?=
DAYS   ?=
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
STAMP  := $(VENV)/.installed

.PHONY: setup demo test test-full bench lint docs clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3,11) <= sys.version_info[:2] < (3,13) else "Python 3.11 or 3.12 is needed; pass PYTHON=python3.11")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	@$(VENV)/bin/alphalake demo $(if $(MARKET),--market $(MARKET)) $(if $(DAYS),--days $(DAYS)) $(if $(filter 0,$(SERVE)),--no-serve)

lint: setup
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/basedpyright --level error
	@$(VENV)/bin/lint-imports

test: setup lint
	@PYTHON=$(PY) tests/system-packages.sh
	@$(VENV)/bin/pytest -n 2 --dist loadgroup

test-full: setup
	@PYTHON=$(PY) tests/system-packages.sh
	@$(VENV)/bin/pytest -n 2 --dist loadgroup -m 'full and not gpu and not network'

bench: setup
	@$(PY) -m bench

docs: setup
	@$(VENV)/bin/alphalake docs

clean:
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
