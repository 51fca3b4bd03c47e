# Every command works on a fresh machine that has a Python with venv: it makes .venv and installs what it needs there.
# `make help` lists them. PYTHON=/path/to/python chooses the interpreter of a new .venv.

.DEFAULT_GOAL := help
.PHONY: help demo test test-cov lint format type-check docs docs-serve bench soak clean

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist worksteal

demo: .venv/.installed-alembic ## Show models with file fields at work, on SQLite and a temporary folder
	@$(BIN)/python examples/demo.py

test: .venv/.installed-test ## Run all tests in parallel; the last lines say which databases and servers they ran on
	@$(PYTEST) $(ARGS)

test-cov: .venv/.installed-test ## Run all tests and tell which lines and branches they did not reach
	@$(PYTEST) --cov --cov-report term --cov-report html $(ARGS)

lint: .venv/.installed-dev ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: .venv/.installed-dev ## Mend style and formatting
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

type-check: .venv/.installed-dev ## Check types with mypy --strict and with pyright
	@$(BIN)/mypy
	@$(BIN)/pyright

docs: .venv/.installed-dev ## Build the documentation into docs/_build/html; a warning is an error
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

docs-serve: docs ## Build the documentation and serve it on http://127.0.0.1:8000
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory docs/_build/html 8000

bench: .venv/.installed-bench ## Measure speed and memory against the goals and the peers
	@$(BIN)/python -m benchmarks $(ARGS)

soak: .venv/.installed-test ## Run 10 000 random histories, ten times as many examples, and gc of 50 million objects (hours)
	@HYPOTHESIS_PROFILE=soak $(PYTEST) -m hypothesis --timeout 3600 $(ARGS)
	@$(BIN)/python -m benchmarks gc-soak

clean: ## Remove .venv and everything that the commands made
	@rm -rf .venv .ci/venvs build dist *.egg-info docs/_build htmlcov .coverage .coverage.* .hypothesis \
		.mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

# One environment; a stamp for each extra, made anew when pyproject.toml changes.
.venv/.installed-%: pyproject.toml | .venv/bin/python
	@echo "installing granite-storage[$*] into .venv ..."
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --editable '.[$*]'
	@touch $@

.venv/bin/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
		if "$$python" -c 'import sys, venv, ensurepip, sqlite3, ssl; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making .venv with $$("$$python" --version)"; \
			"$$python" -m venv .venv && exit 0; \
			rm -rf .venv; echo "make: $$python could not make .venv (see above)" >&2; exit 1; \
		fi; \
	done; \
	echo "make: no usable Python found. This needs Python 3.11 or newer with its venv, ssl and sqlite3 modules" >&2; \
	echo "(on Debian: apt-get install python3 python3-venv); or name one: make PYTHON=/path/to/python ..." >&2; \
	exit 1
