# make demo and make test do all their own set-up: Python 3.11 or later, make and the package index are enough.
PYTHON ?= python3
OUT ?= demo-out
ARGS ?=
# processes of the tests: one more than cores, since many tests wait for a server
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
BIN := .venv/bin
# a file at a time in each of three or four processes
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# tests that train something, or that round to half precision
MODELS := tests/contract/test_every_model.py::test
TRAINING := tests/unit/engine/train tests/unit/geolocation/training tests/unit/geolocation/locate/test_locator.py \
	tests/unit/geolocation/heads tests/contract/test_every_head.py \
	tests/contract/test_every_forecast_model.py::test_can_learn_one_batch_by_heart \
	$(MODELS)_can_learn_one_batch_by_heart $(MODELS)_can_learn_that_dates_differ_whichever_way \
	$(MODELS)_can_learn_to_tell_gain_from_loss $(MODELS)_bf16_changes_few_classes $(MODELS)_runs_in_bf16_and_channels_last
UPGRADE ?= --upgrade
# make TORCH=cpu demo: an install of 2 GB, and not of 7
TORCH ?=
BACKEND = $(if $(TORCH),--torch-backend=$(TORCH))
comma := ,
# what the lock holds beside the run time and the tools of development
EXTRAS := --extra dask --extra prefect --extra train
# nothing is built but what has no wheel, and that with the tools of the lock
WHEELS := --only-binary :all: --no-binary version-parser --build-constraints requirements.txt
# for docker build: --build-arg BASE=IMAGE, --secret id=ca,src=FILE, --secret id=index,src=FILE, --network=host, ...
BUILD ?=
DOCKER ?= docker
COMPOSE ?= $(shell $(DOCKER) compose version >/dev/null 2>&1 && echo $(DOCKER) compose || echo docker-compose)

.PHONY: demo test check-slow test-training fuzz lint licences docs site bench bench-composite bench-train bench-geolocate \
	bench-growth bench-start bench-stream bench-nowcast bench-tables bench-objects bench-detect bench-track bench-gpu \
	bench-backends bench-rate bench-similar bench-ground bench-surfaces env \
	requirements dist pin-base stack stack-down stack-local images

env: .venv/.done

define VENV
$(PYTHON) -c 'import sys; sys.exit("geoml needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo 'python3 -m venv failed; Debian and Ubuntu have it in the package python3-venv'; exit 1; }
	sed -n '/^uv==/,/[^\\]$$/p' requirements.txt >.venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt
endef

.venv/.done: requirements.txt pyproject.toml
	$(VENV)
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes $(WHEELS) --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

# what a run needs and no more, of the lock; TORCH=cpu takes torch's own builds for a processor, which the lock does not list
.venv/.run: requirements.txt pyproject.toml
	$(VENV)
	sed '$(if $(TORCH),/^torch\(vision\)\{0$(comma)1\}==/$(comma)/[^\\]$$/d)' requirements.txt >.venv/lock.txt
	$(BIN)/uv pip compile --quiet --no-annotate --no-header $(BACKEND) --python $(BIN)/python -c requirements.txt \
		pyproject.toml --group tools -o .venv/run.txt
	$(BIN)/uv pip install --quiet --compile-bytecode $(if $(TORCH),--verify-hashes,--require-hashes) --no-deps \
		--only-binary :all: $(BACKEND) --python $(BIN)/python -c .venv/lock.txt -r .venv/run.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: $(if $(wildcard .venv/.done),env,.venv/.run)  ## the main job on the embedded catalog; OUT=DIR chooses the folder
	$(BIN)/geoml demo --out $(OUT)

test: env  ## all tests but the long ones; ARGS are for pytest, and a -m in them chooses anew
	$(PYTEST) -m "not slow" $(ARGS)

check-slow: env  ## the long ones: real services, images and deployments
	$(PYTEST) -m slow $(ARGS)

test-training: env  ## what trains, as on a processor without AVX-512 and AMX, with one thread
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=1 $(PYTEST) -m "not slow" $(ARGS) $(TRAINING)

fuzz: env  ## foreign input changed at random, ten minutes; ARGS="--seconds 60 --only items,locks"
	$(BIN)/python -m tests.fuzz.main $(ARGS)

lint: env  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docker/licences.py

licences: env  ## what is not permissive among the packages here; fails for what docker/licences.py does not list
	$(BIN)/python docker/licences.py

docs: env  ## the tables of options in the documents, from the fields of recipes and settings
	$(BIN)/python -m tests.docs.tables

site: env  ## the documents as a site in out/site; a link that leads nowhere fails
	cd docs/site && PYTHONPATH=. NO_MKDOCS_2_WARNING=1 ../../$(BIN)/python -m mkdocs build --strict --quiet

bench: env  ## throughput and memory; see docs/performance.md
	$(BIN)/python -m tests.benchmarks.predict $(ARGS)

bench-composite: env  ## composites of stacks of scenes, against another checkout (--old) and numpy
	$(BIN)/python -m tests.benchmarks.composite $(ARGS)

bench-train: env  ## training, against a plain loop of the same network, data and precision
	$(BIN)/python -m tests.benchmarks.train $(ARGS)

bench-geolocate: env  ## pictures per second, end to end and of the bare backbone with decoding
	$(BIN)/python -m tests.benchmarks.geolocate $(ARGS)

bench-growth: env  ## seconds and memory of all that is not pixels, by items, blocks and polygons; ARGS="--largest 70000"
	$(BIN)/python -m tests.benchmarks.growth $(ARGS)

bench-start: env  ## CPU seconds and memory of commands before they do any work; ARGS="--older DIR" beside a checkout
	$(BIN)/python -m tests.benchmarks.start $(ARGS)

bench-stream: env  ## latency of one chip through the warm model, p50 and p99
	$(BIN)/python -m tests.benchmarks.stream $(ARGS)

bench-nowcast: env  ## motion and leads of a radar frame, beside pysteps (PYSTEPS_PYTHON)
	$(BIN)/python -m tests.benchmarks.nowcast $(PYSTEPS_PYTHON)

bench-tables: env  ## rows a second of forecasts of a table, beside pytorch-forecasting (PF_PYTHON)
	$(BIN)/python -m tests.benchmarks.tables $(PF_PYTHON)

bench-objects: env  ## joining 10^4 to 10^6 boxes, beside torchvision and SAHI (SAHI_PYTHON)
	$(BIN)/python tests/benchmarks/objects.py

bench-detect: env  ## a detector over a large photo, beside SAHI with the same weights and the bare network
	$(BIN)/python -m tests.benchmarks.detect $(ARGS)

bench-track: env  ## ids, places and speeds of real films with true boxes; docs/tracking.md has the table
	$(BIN)/python -m tests.benchmarks.track $(ARGS)

bench-similar: env  ## search among embeddings, what int8 costs it, and speed and memory of a map; ARGS="--model presto --speed"
	$(BIN)/python -m tests.benchmarks.similar $(ARGS)

bench-ground: env  ## ground filters on real clouds, beside CSF and Whitebox (GROUND_PYTHON)
	$(BIN)/python -m tests.benchmarks.ground $(GROUND_PYTHON)

bench-surfaces: env  ## terrain at points left out beside a linear TIN, and cells a second
	$(BIN)/python -m tests.benchmarks.surfaces

bench-gpu: env  ## tests/gpu and the table of a GPU; says so where there is none. ARGS=--rehearse tries the script without
	$(BIN)/python -m tests.gpu.measure $(ARGS)

bench-backends: env  ## forward of a chip by every back end, as a ratio to PyTorch's
	$(BIN)/python -m tests.benchmarks.backends $(ARGS)

bench-rate: env  ## CPU seconds of a map against the build of before, a plain loop and other packages
	$(BIN)/python -m tests.benchmarks.rate $(ARGS)

stack-local: env  ## the services that geoml works with, from packages on this machine, until Ctrl-C; docs/stack.md
	$(BIN)/python docker/stack.py up $(ARGS)

images:  ## the images of the stack; BUILD has options for docker build
	DOCKER_BUILDKIT=1 $(DOCKER) build $(BUILD) -f docker/cpu.Dockerfile -t geoml:cpu .
	DOCKER_BUILDKIT=1 $(DOCKER) build $(BUILD) -f docker/services.Dockerfile -t geoml-services .

stack: images  ## the same services in containers, until make stack-down
	sh docker/passwords.sh
	$(COMPOSE) --env-file docker/compose.env -f docker/compose.yaml -p geoml up -d
	@echo; grep -v -e '^#' -e @random@ docker/compose.env.in; echo 'Passwords are in docker/compose.env, which only you can read.'

stack-down:  ## ends make stack; its data stay in volumes
	sh docker/passwords.sh  # compose reads the file
	$(COMPOSE) --env-file docker/compose.env -f docker/compose.yaml -p geoml down

pin-base:  ## the digest of the images' base into the Dockerfiles; docs/stack.md
	$(PYTHON) docker/pin_base.py $(ARGS)

dist: env  ## sdist and wheel in dist/, for a release (CONTRIBUTING.md)
	$(BIN)/uv build --quiet --no-build-isolation --offline --python $(BIN)/python
	ls -l dist

requirements: env  ## take newer versions of the dependencies; UPGRADE= keeps those that still do
	$(BIN)/uv pip compile pyproject.toml $(EXTRAS) --group dev --universal --python-version 3.11 $(UPGRADE) \
		--generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.txt
