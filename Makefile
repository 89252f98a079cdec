# On a fresh machine `make demo` and `make test` do all the set-up. PYTHON names the interpreter to build .venv from.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/installed-demo
STAMP := .venv/installed
OUT ?= out

TESTS := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test sweeps test-all lint mutation docs clean

demo: $(DEMO)
	$(BIN)/tfcert verify examples/mnist_robust.prop --out $(OUT) --json $(OUT)/result.json

test: lint
	$(TESTS) -m "not sweep"

# What `make test` leaves out: more networks, norms and examples of what the other tests show on a few. With
# SWEEP_SECONDS those that begin in that time.
sweeps: $(STAMP)
	$(TESTS) -m sweep $(if $(SWEEP_SECONDS),--sweep-seconds $(SWEEP_SECONDS))

test-all: lint
	$(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Plants bugs in a copy of the package, one at a time, and shows that the tests notice each (8 minutes on two cores).
mutation: $(STAMP)
	$(BIN)/python tests/mutation.py

# A paper's lines from nothing, printed beside measured: reproduce-cnncert, -deepcert, -agrify, -constrained-ibp and
# -abscert. TABLE=3: those of that table; MINUTES=60: begins nothing after an hour, the next run goes on; SMALL=1: few
# epochs and images; INTO=benchmarks: goes on with the stored results. docs/reproduction.md has the lines.
reproduce-%: $(STAMP)
	$(BIN)/python -m benchmarks.papers.run $* $(if $(TABLE),--table $(TABLE)) $(if $(MINUTES),--minutes $(MINUTES)) \
	    $(if $(SMALL),--small) $(if $(INTO),--into $(INTO))

# The pages of docs/, with the grammar and the Python interface from its docstrings: open out/docs/index.html. A warning
# is an error.
docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs $(OUT)/docs

# What everything else needs holds what the demo needs, so that neither is installed twice.
$(STAMP): setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,report,examples]'
	@touch $(DEMO) $@

$(DEMO): setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[report,examples]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "tfcert needs Python 3.11 or newer; name one with: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv .venv-peers build dist out *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
