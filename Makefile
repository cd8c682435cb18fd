# Everything runs from .venv; it is made when missing or when pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
PY := $(VENV)/bin/python

.PHONY: run test lint soak bench bench-all clean

run: $(VENV)/ready
	$(PY) examples/source.py

test: $(VENV)/ready
	$(PY) -m pytest

lint: $(VENV)/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tradewind needs Python 3.11 or later; this is %s. Name another: make PYTHON=python3.12" % sys.version.split()[0])'
	@echo "Making $(VENV) and installing what Tradewind needs there: this takes a minute."
	$(PYTHON) -m venv $(VENV)
	@$(PY) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*p["dependencies"], *p["optional-dependencies"]["dev"], sep="\n")' > $(VENV)/requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --requirement $(VENV)/requirements.txt
	@# Examples and tests import this checkout as `tradewind`. A link that works, or an installed package, is left alone.
	@$(PY) -c 'import os, sysconfig; site = os.path.realpath(sysconfig.get_path("purelib")); link = site + "/tradewind"; \
		os.path.exists(link) or (os.path.islink(link) and os.unlink(link), \
		os.symlink(os.path.relpath(os.path.realpath("common"), site), link))'
	@touch $@

$(BENCH)/ready: pyproject.toml
	@echo "Making $(BENCH) and installing what the bench needs there: this takes a minute."
	$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*p["dependencies"], *p["optional-dependencies"]["bench"], sep="\n")' > $(BENCH)/requirements.txt
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(BENCH)/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH) .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

# SCENARIOS names what to measure (python -m benchmarks --help); all of it takes about half an hour.
bench: $(BENCH)/ready
	$(BENCH)/bin/python -m benchmarks $(SCENARIOS)

# Also Dask, Ray, ipyparallel, Parsl, Scaler, and with Redis Celery and Dramatiq, each installed into .bench/.
bench-all: $(BENCH)/ready
	$(BENCH)/bin/python -m benchmarks --all $(SCENARIOS)

soak: $(VENV)/ready
	TRADEWIND_SEEDS=0:100000 $(PY) -m pytest --timeout 7200 tests/simulation
	CHAOS_KILLS=200 CHAOS_TASKS=100000 $(PY) -m pytest -s --timeout 3600 tests/chaos
	$(PY) -m pip install --quiet --disable-pip-version-check 'atheris>=2.3' || true
	$(PY) -m tests.fuzz.soak --inputs 10000000
	LYING_RETURNS=50000 $(PY) -m pytest --timeout 900 tests/test_lying_peers.py
	$(PY) -m benchmarks.recovery
