# The two commands of the README are `make demo` and `make test`; both build .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# tests run on all cores, one thread each; sets of parameters must be in one order in every process
PARALLEL := OMP_NUM_THREADS=1 PYTHONHASHSEED=0

.PHONY: demo test check lint types docs format clean

demo: $(READY)
	$(BIN)/assay report examples/g2p.py:attention --output report.html; \
	code=$$?; test $$code -le 1 || exit $$code  # 1 says that something was found, which is the point

test: $(READY)
	$(PARALLEL) $(BIN)/python -m pytest --numprocesses auto

check: lint types  # and docs: they are among the tests
	$(PARALLEL) $(BIN)/python -m pytest --numprocesses auto --cov --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m pytest tests/docs

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "assay needs Python 3.11 or newer; run: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) report.html .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
