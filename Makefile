# AIOps Lab. Each command sets up .venv by itself when it is first used; PYTHON=… chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
endif
PY := $(BIN)/python
NBVAL := -p tests.support.nbval_start --nbval --nbval-current-env --nbval-sanitize-with=notebooks/sanitize.cfg --nbval-cell-timeout=300
# Three for two cores, as some tests wait for servers: make test WORKERS=5 for four cores.
WORKERS ?= 3

# Python keeps the modules that it compiles: the tests start it a hundred times.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo lab students test test-lessons test-browser test-claims test-lite test-apps torture check bench bench-large bench-all tables peers docs lite clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/set-up-demo  ## start the shop, break /payment, see the incident and its cause (1 minute; OPEN=1: in a browser, too)
	@$(PY) -m shop demo $(if $(OPEN),--open)

lab: $(VENV)/set-up-lab  ## open the map of the course in JupyterLab, with copies of the lessons in my_lessons/
	@$(PY) notebooks/copies.py lab
	@mkdir -p $(VENV)/share/jupyter/lab/settings && cp notebooks/overrides.json $(VENV)/share/jupyter/lab/settings
	@$(PY) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) my_lessons/README.md

students: $(VENV)/set-up-lab  ## copy the lessons into students/, without their solutions
	@$(PY) notebooks/copies.py students

test: $(VENV)/set-up-test  ## run the tests, docstring examples and lessons with their solutions, and compare what they print
	@rm -rf solved
	@$(PY) notebooks/copies.py solved
	@$(PY) -m tests.support.compiled & \
	  $(PY) -m pytest $(NBVAL) -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(COVERAGE) tests aiops_lab shop solved

test-lessons: $(VENV)/set-up-test  ## run every lesson with its solutions, and compare what it prints
	@rm -rf solved
	@$(PY) notebooks/copies.py solved
	@$(PY) -m pytest $(NBVAL) -n 2 --dist loadfile solved

test-browser: $(VENV)/set-up-browser  ## in Chromium: run lesson 03 and move a slider; break /payment on the live page and resolve the incident
	@$(PY) -m pytest -m browser -rs tests/browser

test-claims: $(VENV)/set-up-test  ## plant wrong claims in copies of the lessons and see each one found (some minutes)
	@$(PY) -m pytest -m claims -n 2 --durations=0 --durations-min=1 tests/claims

test-lite: $(VENV)/set-up-test  ## run the lessons that a browser can run, without compiler, sockets and new threads (some minutes)
	@$(PY) -m pytest -m lite -n 2 --durations=0 --durations-min=1 tests/test_blocked.py

test-apps: $(VENV)/set-up-test  ## serve real applications with gunicorn, break each and see its cause named (ten minutes)
	@$(PY) -m pytest -m apps -n 2 --durations=0 --durations-min=1 tests/apps

torture: $(VENV)/set-up-torture  ## throw at the shop what it must survive, and print what was lost (15 minutes)
	@$(PY) -m tests.torture

check: $(VENV)/set-up-test  ## style, format and types, then the tests and what they cover
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(MAKE) --no-print-directory test COVERAGE="--cov --cov-report=term:skip-covered"

# What is measured beside a peer runs in the peer's own environment, with this package in it.
BENCH := $(VENV)/set-up-ratios $(VENV)-opentelemetry/set-up $(VENV)-polars/set-up $(VENV)-duckdb/set-up

bench: $(BENCH)  ## one table of ratios beside pandas, polars, duckdb and OpenTelemetry, with goals (under ten minutes; GUARD=1: fail where worse)
	@$(PY) -m benchmarks.ratios $(if $(GUARD),--guard) $(if $(KEEP),--keep)

bench-large: $(BENCH)  ## the same of 10 and 20 million spans, on two workers of which one is killed (half an hour)
	@$(PY) -m benchmarks.ratios --large $(if $(GUARD),--guard) $(if $(KEEP),--keep)

bench-all: $(VENV)/set-up-bench  ## every benchmark, one after the other, those of accuracy beside their peers too (hours)
	@for file in $(filter-out benchmarks/mutants.py,$(wildcard benchmarks/[a-z]*.py)); do \
	  echo "== $$file"; $(PY) -m benchmarks.$$(basename $$file .py) || [ $$? -eq 2 ] || exit 1; done  # 2: no data at hand

tables: $(VENV)/set-up-bench  ## make all tables anew: public data (AIOPS_LAB_DATA=DIR), virtual shops, wrong answers, confidence, peers (an hour)
	@for command in accuracy "results --accuracy accuracy" failures confidence unseen; do \
	  $(PY) -m benchmarks.$$command || [ $$? -eq 2 ] || exit 1; done  # 2: no data at hand
	@$(MAKE) --no-print-directory peers

peers: $(VENV)-peers/set-up  ## run this package inside RCAEval's evaluation, and VUS on its scores (their own environment)
	@for name in rcaeval vus; do \
	  PYTHONPATH=. $(VENV)-peers/bin/python -m benchmarks.$$name || [ $$? -eq 2 ] || exit 1; done  # 2: no data at hand

docs: $(VENV)/set-up-docs  ## build the documentation site into docs/_build/html
	@$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lite: $(VENV)-lite/set-up  ## build a JupyterLite site into build/lite/site: the lessons in a browser, without an installation
	@rm -rf build/lite build/lib
	@$(VENV)-lite/bin/python notebooks/hosted.py lite build/lite/files
	@$(VENV)-lite/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/lite/pypi .
	@rm -rf build/lib build/bdist.*
	@$(VENV)-lite/bin/python -m jupyterlite_core build --log-level ERROR --no-sourcemaps --lite-dir build/lite \
	  --output-dir build/lite/site > build/lite/log || { cat build/lite/log; exit 1; }
	@echo "build/lite/site/lab/index.html, for a web server: python -m http.server -d build/lite/site"

clean:  ## remove .venv and what the tools left behind
	@rm -rf $(VENV) $(VENV)-peers $(VENV)-lite $(VENV)-opentelemetry $(VENV)-polars $(VENV)-duckdb solved build docs/_build docs/lessons docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# One virtual environment for all commands; each adds what it needs, so that the demo does not wait for JupyterLab.
$(VENV)/set-up-demo: EXTRAS := [shop,plots,fast]
$(VENV)/set-up-lab: EXTRAS := [lab]
$(VENV)/set-up-test: EXTRAS := [dev]
$(VENV)/set-up-torture: EXTRAS := [torture]
$(VENV)/set-up-browser: EXTRAS := [browser]
$(VENV)/set-up-bench: EXTRAS := [dev,bench]
$(VENV)/set-up-ratios: EXTRAS := [ratios]
$(VENV)/set-up-docs: EXTRAS := [docs]

$(VENV)/set-up-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "AIOps Lab needs Python 3.11 or newer: make PYTHON=python3.11 $*"; exit 1; }
	@echo "Setting up $(VENV) for make $* (once; a minute or two)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@find . -path ./$(VENV) -prune -o -name '*.nb[ic]' -exec rm -f {} +  # kernels compiled by another version
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable ".$(EXTRAS)"
	@touch $@

# RCAEval asks for nothing by itself; its extras ask for old versions of all that any of its methods needs.
# vus asks for TensorFlow, which VUS itself does not use: what it imports is named instead.
$(VENV)-peers/set-up: pyproject.toml
	@test -d $(VENV)-peers || $(PYTHON) -m venv $(VENV)-peers
	@$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check ".[fast]" RCAEval fse-baro networkx \
	  matplotlib tqdm arch scikit-learn scipy statsmodels
	@$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vus
	@touch $@

# A peer that make bench measures, and what both sides of a ratio need.
$(VENV)-opentelemetry/set-up: PEER := opentelemetry-sdk opentelemetry-instrumentation-flask opentelemetry-instrumentation-requests
$(VENV)-polars/set-up: PEER := polars
$(VENV)-duckdb/set-up: PEER := duckdb

$(VENV)-opentelemetry/set-up $(VENV)-polars/set-up $(VENV)-duckdb/set-up: pyproject.toml
	@echo "Setting up $(@D) (once)"
	@test -d $(@D) || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[fast]" $(PEER)
	@touch $@

# What builds the site, in an environment of its own: its parts want one version of JupyterLab.
$(VENV)-lite/set-up: pyproject.toml
	@test -d $(VENV)-lite || $(PYTHON) -m venv $(VENV)-lite
	@$(VENV)-lite/bin/python -m pip install --quiet --disable-pip-version-check jupyter_server "jupyterlite-core>=0.6,<0.9" \
	  "jupyterlite-pyodide-kernel>=0.6,<0.9" jupyterlab_widgets nbformat
	@touch $@
