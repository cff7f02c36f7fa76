# r1, from a fresh clone: `make train`. It needs make, Python 3.11 with pip, and a package index.

# The locks have only been tried with Python 3.11: it is taken first, then newer ones. Another: make setup PYTHON=...
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
# cpu or gpu: which lock. gpu when nvidia-smi lists one. By hand: make setup DEVICE=cpu
DEVICE ?= $(if $(shell nvidia-smi -L 2>/dev/null | grep '^GPU'),gpu,cpu)
ARGS ?=
# Each process of a run would compile our modules anew: the quickstart with one step took 29 s in place of 24 s.
unexport PYTHONDONTWRITEBYTECODE

# Set up once for each content of these files: the stamp's name holds their checksum, and is written last.
LOCKS := requirements/cpu.lock requirements/gpu.lock requirements/dev.lock
STAMP = .venv/.installed-$(DEVICE)-$(shell cat $(LOCKS) requirements/install.sh pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: help setup train test check bench-rewards bench-learner bench-overlap bench-sync bench-driver bench-traces lint fast-test lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

setup: ## install the locked packages and r1 into .venv (once; some minutes)
	@test -e $(STAMP) || { PYTHON="$(PYTHON)" requirements/install.sh $(DEVICE) && touch $(STAMP); }

train: setup ## train the small example from start to end; ARGS="num_steps=20" changes options
	.venv/bin/python -m launch.train launch/configs/quickstart.toml $(ARGS)

test: setup ## all tests; ARGS="tests/test_FILE.py -x" goes to pytest instead
ifeq ($(strip $(ARGS)),)
	@$(MAKE) --no-print-directory fast-test
	# Two files at a time, on a core each, but for what minds that others compute, or looks at all processes of the machine.
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "beside or slow and not ray" -n 2 --dist loadfile --no-loadscope-reorder
	.venv/bin/python -m pytest -m "ray and not beside"
else
	.venv/bin/python -m pytest $(ARGS)
endif

check: setup ## ruff, mypy and the fast tests: under a minute
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint fast-test

bench-rewards: setup ## time the math grader against math-verify; ARGS="--cases FILE.jsonl" takes other completions
	.venv/bin/python -m launch.bench_rewards $(ARGS)

bench-learner: setup ## time the learner's parts, tokens/s and MFU; ARGS="--dtype bfloat16" and others, see --help
	.venv/bin/python -m launch.bench_learner $(ARGS)

bench-overlap: setup ## wall time of strict and overlapped training; ARGS="--steps 20 --in-flight" and others
	.venv/bin/python -m launch.bench_overlap $(ARGS)

bench-sync: setup ## time a weight sync by phase, with and without verification; ARGS="--dtype float32" and others, see --help
	.venv/bin/python -m launch.bench_sync $(ARGS)

bench-driver: setup ## completions/s of the driver with an engine that answers at once; ARGS="--workers 2" and others, see --help
	.venv/bin/python -m launch.bench_driver $(ARGS)

bench-traces: setup ## size of the trace store, seconds and memory of the commands that read it; ARGS="--completions 10000" and others
	.venv/bin/python -m launch.bench_traces $(ARGS)

lint:
	.venv/bin/ruff check .
	.venv/bin/mypy

fast-test:
	# Two processes of one thread: many tests wait, and the models are tiny.
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow and not ray" -q -n 2 $(ARGS)

lock: ## rebuild requirements/*.lock from the .in files; ARGS=--upgrade takes newer versions
	PYTHON="$(PYTHON)" requirements/lock.sh $(ARGS)

clean: ## remove .venv and the tools' caches (runs and models stay)
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
