# Two commands do everything: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench pictures browser lock clean

demo: .venv/ready
	$(BIN)/leukoscope demo demo --overwrite

# One thread a process: two processes of two threads each would wait for each other on two cores.
test: .venv/ready browser
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/ready
	for script in views smallmaps pretraining embedding heads simulator review; do $(BIN)/python benchmarks/$$script.py || exit 1; done

pictures: .venv/ready
	for script in docs/pictures/*.py; do $(BIN)/python $$script || exit 1; done

browser:
	scripts/install-browser.sh
	scripts/install-review-tools.sh

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Leukoscope needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Resolves the tested set anew; needs uv.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate --upgrade -o requirements.lock

clean:
	rm -rf .venv node_modules demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
