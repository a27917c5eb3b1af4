# make demo    sets everything up, trains a network on handwritten digits, and shows what it makes of ten of them
# make test    sets everything up and runs all tests
#
# Needs Python 3.11 or newer and nothing else; PYTHON=python3.12 chooses one. What is installed once is not installed again:
# both work without a network from then on. On Linux the default PyTorch comes with 2 GB of CUDA libraries; to have the one
# for processors only, set PIP_EXTRA_INDEX_URL to PyTorch's own index of such builds before the first call.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUN    := runs/demo

.PHONY: demo test reference hunt bench gallery lint clean

demo: $(VENV)/run.stamp
	@rm -rf $(RUN) runs/demo-digits
	$(BIN)/thalweg train classify digits --model lenet --epochs 12 --threads 1 --out $(RUN)
	$(BIN)/thalweg data sample digits --count 10 --out runs/demo-digits
	$(BIN)/thalweg predict $(RUN) runs/demo-digits
	@echo "The report, for any browser: $(RUN)/report.html"

test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

reference: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/reference

# the tests that make up their own examples, with ten times as many and new ones
hunt: $(VENV)/dev.stamp
	$(BIN)/python -m pytest --hypothesis-profile=hunt -m hypothesis

bench:
	$(PYTHON) benchmarks/run.py

gallery: $(VENV)/run.stamp
	$(BIN)/python docs/gallery.py

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Thalweg needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python came without venv; on Debian and Ubuntu it is the package python3-venv." >&2; exit 5; }

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing; this takes a few minutes the first time."
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing; this takes a few minutes the first time."
	$(PIP) -e ".[dev]"
	@touch $(VENV)/run.stamp $@
