# What people and CI call. `make` alone explains itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SCORES := $(VENV)/.scores
READY  := $(VENV)/.ready
OUT    ?= out
BENCH  ?=
ENGINE ?= $(shell command -v podman || command -v docker)
IMAGE  ?= shardscore
BUILD  ?=
# Tests run in a process for each core. Where some are left, the idle one takes from the others' end,
# so that most tests of a module, and what they share, stay together.
PARALLEL := --numprocesses=logical --maxprocesses=4 --dist=worksteal
PYTEST := $(BIN)/python -m pytest $(PARALLEL)
# Measured, all takes longer; and processes find their code here, whatever folder they begin in.
COVERED := PYTHONPATH="$(CURDIR)" $(BIN)/python -m coverage run -m pytest --timeout=1200
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.DEFAULT_GOAL := help
.PHONY: help setup score score-digits test test-quick test-long test-faults k8s-test ray-test browser-test coverage image image-test bench bench-setup bench-checkpoints bench-scale mutants check lock sample-data clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; print "make TARGET, where TARGET is one of\n"} \
	      /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SCORES) ## Make .venv/ with what scores (the other targets do this when it is needed)

# The environment comes about in two steps: what scores, and what only tests and checks need. Stale as
# soon as a lock or the packaging changes; then it begins anew, so that nothing of an old lock is left.
# One that was interrupted goes on, with what is installed.
$(SCORES): requirements.runtime.lock requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "shardscore needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	@if [ -e $@ ] || [ -e $(READY) ]; then rm -rf $(VENV); fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing TensorFlow and what else shardscore needs into $(VENV): some minutes, 2 GB" >&2
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes \
	  --requirement requirements.runtime.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .
	@touch $@
	@echo "ready: . $(BIN)/activate" >&2

$(READY): $(SCORES)
	@echo "installing what the tests and checks need: some minutes, 1.4 GB" >&2
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes \
	  --requirement requirements.lock
	@touch $@

score: $(SCORES) ## Score the sample flights into out/flights, and make the page that says how it went
	$(BIN)/shardscore score --config sample_data/flights.toml --output $(OUT)/flights
	$(BIN)/shardscore report $(OUT)/flights

score-digits: $(SCORES) ## Score PNG images of digits into out/digit_images, and tell the accuracy
	$(BIN)/shardscore score --config sample_data/digit_images.toml --output $(OUT)/digit_images
	$(BIN)/python sample_data/accuracy.py $(OUT)/digit_images

test: $(READY) ## Run the tests, but for the long ones and the sweeps over faults, and what needs an image, Ray or a browser
	$(PYTEST) -m 'not faults and not long and not image and not ray and not browser'

test-quick: $(READY) ## Run the tests that take less than ten seconds each
	$(PYTEST) -m 'not slow and not long and not faults and not image and not ray and not browser'

test-long: $(READY) ## Run the long tests: compare, memory, the benchmark, the README's commands (five minutes)
	$(PYTEST) -m 'long and not ray'

test-faults: $(READY) ## Sweep over faults: kills, full disks, system calls (needs root and strace)
	$(PYTEST) -m 'faults and not ray' -rA

browser-test: $(READY) ## Look at the report in a real browser (needs Debian's chromium and chromium-driver)
	$(BIN)/python -m pytest -m browser tests/browser

k8s-test: $(READY) ## Hold the Kubernetes manifests against its schemas, and run their Job for real
	$(PYTEST) tests/kubernetes

# In one process: the cluster is begun once, and its nodes are taken away by one test at a time.
ray-test: $(READY) ## Score on a real Ray cluster of three nodes, and take nodes and actors away (three minutes)
	$(BIN)/python -m pytest -m ray tests/ray

# Of all processes: those that tests begin, and those that fork. What is killed tells nothing of itself.
# Left out are the image, what measures memory, and most sweeps over faults.
coverage: $(READY) ## Measure how many branches of pipeline/ and jobs/ the tests take (half an hour)
	rm -rf .coverage
	mkdir .coverage
	$(COVERED) $(PARALLEL) -m 'not faults and not long and not image and not ray and not browser'
	$(COVERED) $(PARALLEL) -m 'long or faults' tests/e2e/test_compare.py \
	  tests/faults/test_hostile_parquet.py tests/faults/test_pid_one.py
	$(COVERED) -m ray tests/ray
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
	$(BIN)/python -m coverage json --quiet -o .coverage/coverage.json
	$(BIN)/python -m tests.branches .coverage/coverage.json

image: ## Build the container image with podman or docker (IMAGE=NAME; BUILD='options of its build')
	@test -n "$(ENGINE)" || { echo "there is neither podman nor docker" >&2; exit 1; }
	$(ENGINE) build --file jobs/Dockerfile --tag $(IMAGE) \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" $(BUILD) .

image-test: $(READY) ## Build the image on a base made here, and score with it (needs root; ten minutes)
	$(BIN)/python -m pytest -m image -rA tests/image

bench-setup: $(READY) ## Make the environments of those that `make bench` compares with
	$(BIN)/python -m tests.bench.environments

bench: $(READY) ## Compare with other ways to score (more than an hour; BENCH='--scale 0.02' to try)
	$(BIN)/python -m tests.bench $(BENCH)

bench-checkpoints: $(READY) ## Measure what checkpoints cost (about ten minutes)
	$(BIN)/python -m tests.bench.checkpoints

bench-scale: $(READY) ## Plan a million shards on paper: seconds, memory, imbalance (about five minutes)
	$(BIN)/python -m tests.bench.scale

# From nothing each time: what is kept of an earlier run knows nothing of tests that came since.
mutants: $(READY) ## Break what plans, binds and publishes in each small way, and see that a test tells (13 minutes of CPU)
	rm -rf mutants
	mkdir -p mutants/tmp
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTEST_DEBUG_TEMPROOT="$(CURDIR)/mutants/tmp" $(BIN)/mutmut run
	$(BIN)/python -m tests.mutation

check: $(READY) ## Lint, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(READY) ## Renew requirements.lock from pyproject.toml, and what of it the image holds
	$(COMPILE) --upgrade --extra dev --output-file requirements.lock pyproject.toml
	cp requirements.lock requirements.runtime.lock   # whose pins are kept, where they are needed
	$(COMPILE) --output-file requirements.runtime.lock pyproject.toml

sample-data: $(READY) ## Rebuild sample_data/ from its sources
	$(BIN)/python sample_data/build.py

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(OUT) .bench .coverage mutants build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
