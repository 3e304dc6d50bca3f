# Two commands set everything up: `make demo` and `make test`. The rest is for people who work on Baywindow itself.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
EXTRAS ?= local,dev

.PHONY: install demo test fast docs bench-serve bench-index bench-ask bench-memory bench-window bench-readers bench-planted bench-reference bench-context clean

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

# Retrieval and scale take minutes; every memory system with a small local model takes hours. Resumable.
bench-memory: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/memory.py --hours $(HOURS)

bench-context: install
	$(BIN)/python benchmarks/context.py --parts compress,corag

bench-readers: install
	$(BIN)/python benchmarks/readers.py

bench-planted: install
	$(BIN)/python benchmarks/planted.py
	$(BIN)/python benchmarks/orders.py

# Resumable; each part is kept as it is finished.
bench-serve: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/serve.py

bench-window: install
	for part in window prefill decode second_question quantised codec evicted equal_bytes; do \
	  OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$part.py || exit 1; done

# Small local models on one thread; stops after HOURS and may be given again to go on. Committed in results/.
HOURS ?= 1.5
bench-reference: install
	OMP_NUM_THREADS=1 $(BIN)/bay bench --run results/reference --model "embedded,qwen2.5-coder-0.5b-instruct-q4_k_m?" \
	  --tasks ruler.niah_single_2,ruler.niah_multikey_2,ruler.vt,ruler.qa_1,needlebench.single --lengths 1k,4k --best 4k:6 \
	  --recipes @benchmarks/reference.txt --generate 2 --max-new-tokens 32 --hours $(HOURS)
	$(BIN)/bay bench report results/reference --html results

clean:
	rm -rf $(VENV) site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
