# Two commands set everything up: `make demo` and `make test`. The rest is for people who work on Baywindow itself.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
EXTRAS ?= local,dev

.PHONY: install demo test fast docs bench-index bench-ask bench-window clean

# Always asked, because only the script can tell a good environment from a broken one; takes a moment when nothing changed.
install:
	@$(PYTHON) tools/install.py $(VENV) --extras $(EXTRAS)

demo: install
	$(BIN)/bay ask "How is an index kept up to date?" docs README.md --model embedded --recipe "hybrid(k=5) > rag"

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

bench-window: install
	$(BIN)/python benchmarks/window.py

clean:
	rm -rf $(VENV) site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
