# make demo    set everything up, train LeNet on handwritten digits, and predict ten images of the test split
# make test    set everything up and run all tests
#
# Both need Python 3.11 or newer and nothing else; PYTHON=python3.12 chooses one. Packages are installed once, into .venv;
# after that no network is needed. On Linux the default PyTorch brings 2 GB of CUDA libraries. For the CPU-only build, set
# PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels before the first call.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUN    := runs/demo

.PHONY: demo test reference hunt bench gallery results lint clean

demo: $(VENV)/run.stamp
	@rm -rf $(RUN) runs/demo-digits
	$(BIN)/thalweg train classify digits --model lenet --epochs 12 --cpu-threads 1 --out $(RUN)
	$(BIN)/thalweg data export-samples digits --count 10 --out runs/demo-digits
	$(BIN)/thalweg predict $(RUN) runs/demo-digits
	@echo "The report, for any browser: $(RUN)/report.html"
	@echo "To use thalweg in this shell: . $(BIN)/activate"

test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

reference: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/reference

# property-based tests with ten times as many examples, and new ones at every run
hunt: $(VENV)/dev.stamp
	$(BIN)/python -m pytest --hypothesis-profile=hunt -m hypothesis

bench:
	$(PYTHON) benchmarks/run.py

gallery: $(VENV)/run.stamp
	$(BIN)/python docs/gallery.py

results: $(VENV)/run.stamp
	$(BIN)/python docs/results.py > docs/results.md

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Thalweg needs Python 3.11 or newer; choose one: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "This Python has no venv module. On Debian and Ubuntu, install the package python3-venv." >&2; exit 5; }

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing; this takes a few minutes the first time."
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing; this takes a few minutes the first time."
	$(PIP) -e ".[dev]"
	@touch $(VENV)/run.stamp $@
