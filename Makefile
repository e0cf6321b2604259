# demo · test · lint · nightly · bench · wheel: the same targets on a laptop, in CI and in the README. Each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint nightly bench results wheel clean

# Two marks: what a user needs, and on top of it what the tests need. Each is renewed when what it depends on changes, and
# written last, so that a broken install is never taken for a whole one.
$(VENV)/.ready: requirements.txt constraints.txt pyproject.toml
	@echo "== 准备环境（首次约几分钟）"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq -r requirements.txt
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	@echo "== 准备测试用的库"
	$(BIN)/python -m pip install -qq -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.ready
	$(BIN)/python scripts/demo.py

# Two processes, a thread each: most tests keep one core busy. The real model is in memory once, and takes both cores.
# The last line says what was not run.
NOT_RUN := $(VENV)/.not-run
test: $(VENV)/.ready-dev
	@rm -f $(NOT_RUN)
	OMP_NUM_THREADS=1 ZHSENTI_TEST_NOTES=$(NOT_RUN) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not nightly and not real"
	$(BIN)/python -m pytest -m "real and not nightly"
	@cat $(NOT_RUN)

# What takes longer than a push may: fuzzing at length, 10 million rows, kills of the real 0.5B model.
nightly: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m fuzz --hypothesis-profile nightly
	$(BIN)/python -m pytest -m nightly

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit_packages.py

# dist/zhsenti-*.whl, which needs nothing of this checkout.
wheel: $(VENV)/.ready
	$(BIN)/python .ci/build_wheel.py

# Figures of docs/results: DATA is a folder with ChnSentiCorp's train/dev/test files (or the name ChnSentiCorp with a hub).
DATA ?= ChnSentiCorp
results: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/results.py --dataset $(DATA)

SPEED := startup scoring training memory scaling audit files serving
bench: $(VENV)/.ready-dev
	for name in $(SPEED); do $(BIN)/python benchmarks/$$name.py --dataset $(DATA) --json docs/results/$$name.json || exit 1; done

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
