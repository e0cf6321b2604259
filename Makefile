# demo · test · lint · nightly · bench: the same targets on a laptop, in CI and in the README. Each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := $(if $(ZHSENTI_CACHE),$(ZHSENTI_CACHE),$(HOME)/.cache/zhsenti)

.PHONY: demo test lint nightly bench results clean

# Rebuilt when what it depends on changes; the mark is written last, so a broken install is never taken for a whole one.
$(VENV)/.ready: requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	@echo "== 准备环境（首次约几分钟）"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.ready
	$(BIN)/python scripts/demo.py

# Two processes, a thread each: most tests keep one core busy. The real model is in memory once, and takes both cores.
test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not nightly and not real"
	$(BIN)/python -m pytest -m "real and not nightly"

# What takes longer than a push may: fuzzing at length, 10 million rows, kills of the real 0.5B model.
nightly: $(VENV)/.ready
	$(BIN)/python -m pytest -m fuzz --hypothesis-profile nightly
	$(BIN)/python -m pytest -m nightly

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit_packages.py

# Figures of docs/results: DATA is a folder with ChnSentiCorp's train/dev/test files (or the name ChnSentiCorp with a hub).
DATA ?= ChnSentiCorp
results: $(VENV)/.ready
	$(BIN)/python benchmarks/results.py --dataset $(DATA)

SPEED := startup scoring training memory scaling audit files serving
bench: $(VENV)/.ready
	for name in $(SPEED); do $(BIN)/python benchmarks/$$name.py --dataset $(DATA) --json docs/results/$$name.json || exit 1; done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
