# Every target sets up what it needs in .venv; only Python 3.11 or newer and make have to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := results/digits_cnn-bismo-edge-latency-0.25-ddpg-s0

.PHONY: search test lint type docs check results results-check locked clean

# One thread a process: on small tensors more threads only add synchronization, and another number rounds differently.
search: $(STAMP)  ## a policy for the embedded digits network on bismo-edge, at a quarter of the 8-bit latency
	OMP_NUM_THREADS=1 $(BIN)/haq search --budget 0.25 --episodes 60 --resume --out $(RUN)

test: $(STAMP)  ## the test suite
	OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses 2 --dist worksteal

lint: $(STAMP)  ## style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

type: $(STAMP)  ## types
	$(BIN)/mypy

docs: $(STAMP)  ## the documentation as pages, build/docs/docs/index.html; warnings, such as broken links, are errors
	$(BIN)/sphinx-build --quiet --fail-on-warning -c docs . build/docs

check: lint type docs test

results: $(STAMP)  ## the runs and tables of README.md and results/README.md anew, in hours; DATA and WEIGHTS add the networks
	OMP_NUM_THREADS=1 $(BIN)/python scripts/experiments/make_results.py $(if $(DATA),--data $(DATA) --weights $(WEIGHTS))

results-check: $(STAMP)  ## whether committed tables, numbers and pictures follow from the committed runs, made with today's defaults
	OMP_NUM_THREADS=1 $(BIN)/python scripts/experiments/check_results.py --pictures

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "haq needs Python 3.11 or newer; set PYTHON")'
	$(PYTHON) -m venv $(VENV)
	@echo 'installing PyTorch and other packages in $(VENV), about 7 GB: takes some minutes'
	$(BIN)/pip install --quiet --editable '.[dev]'
	@echo '. $(BIN)/activate puts haq on the path of a shell'
	touch $@

# Not what the other targets install from, as a mirror may serve other files. Build tools are locked too.
locked:  ## fill a new .venv with the versions of the lock file, each file checked by its hash
	test ! -e $(VENV) || { echo "$(VENV) is there already; run make clean first" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the lock file is for Python 3.11; set PYTHON")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement .ci/requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
