# Two commands set everything up: `make demo` and `make test`. The rest is for people who work on Baywindow itself.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
EXTRAS ?= local,dev

.PHONY: demo test fast lint types docs docs-check install clean bench-index bench-ask

install: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml tools/install.py
	$(PYTHON) tools/install.py $(VENV) --extras $(EXTRAS)
	@touch $@

demo: install
	$(BIN)/bay ask "How is an index kept up to date?" docs README.md --model embedded

test: install
	$(BIN)/python tools/check.py

fast: install
	$(BIN)/python tools/check.py --fast

docs: install
	$(BIN)/python tools/docs.py
	$(BIN)/mkdocs build --strict

bench-index: install
	$(BIN)/python benchmarks/index.py

bench-ask: install
	$(BIN)/python benchmarks/ask.py

clean:
	rm -rf $(VENV) site build dist .mypy_cache .ruff_cache .pytest_cache
