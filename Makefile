# make help prints what there is. Everything happens in .venv; nothing else on the machine changes.

PYTHON ?=
BIN := .venv/bin
# Where to look when PYTHON does not say: names on the PATH first, then pyenv's own folders, because
# its shims exist for versions that are not switched on.
CANDIDATES = $(PYTHON) python3.11 python3.12 python3 python \
    /usr/local/bin/python3.11 /usr/local/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3.12 \
    $(wildcard $(HOME)/.pyenv/versions/3.11.*/bin/python $(HOME)/.pyenv/versions/3.12.*/bin/python)
FITS = import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
LOCK = constraints-py$$($(BIN)/python -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint $(LOCK)
INPUTS := setup.py $(wildcard constraints-py*.txt)

.PHONY: help install demo demo-numbers train-mini goldens test check bench lock clean
.DELETE_ON_ERROR:

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) \
	    | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: .venv/.installed  ## .venv with pinned versions, enough for demo and training (1-2 minutes)

demo: .venv/.installed  ## clips from the shipped model and a minute of training: outputs/demo/index.html
	$(BIN)/python examples/demo.py $(ARGS)

demo-numbers: .venv/.installed  ## the measured claims on held-out faces and speech: outputs/demo/numbers.json
	$(BIN)/python benchmarks/demo_numbers.py $(ARGS)

train-mini: .venv/.installed  ## the shipped model again, from nothing; ARGS="--phases codec" for some
	$(BIN)/python benchmarks/train_mini.py $(ARGS)

goldens: .venv/.installed  ## compares with outputs of the reference programs; DIR=their folder
	$(BIN)/python -m benchmarks.goldens $(DIR)

test: .venv/.complete  ## every test, on the CPU; ARGS="-k name" for some
	@status=0; \
	echo "== multi-device tests: eight simulated devices, a process of their own"; \
	$(BIN)/python -m pytest tests/multidevice || status=1; \
	echo "== all other tests"; \
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --ignore=tests/multidevice \
	    $(ARGS) || status=1; \
	exit $$status

check: .venv/.complete  ## format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/basedpyright

bench: .venv/.installed  ## speed of training step and sampling on this machine
	$(BIN)/python benchmarks/speed.py

lock: .venv/.complete  ## writes the versions that .venv holds into the constraints file of this Python
	@{ echo "# Exact versions that install and pass the tests together (x86-64 Linux). Made by"; \
	   echo "# 'make lock'; jax, jaxlib, flax and orbax-checkpoint move together."; \
	   { $(BIN)/python -m pip freeze --all --exclude-editable; \
	     $(BIN)/python -m pip freeze --path .venv/tpu; } \
	       | grep -v -E '^(pip|nvidia-|cuda-|triton)' | sed 's/+cpu$$//' | sort -f; } > $(LOCK).new
	@mv $(LOCK).new $(LOCK)

clean:  ## removes what make has made, .venv included
	rm -rf .venv outputs build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are what make compares: a second call installs nothing.
.venv/.installed: $(INPUTS)
	@test -x $(BIN)/python && $(BIN)/python -c '$(FITS)' 2>/dev/null || { \
	    for python in $(CANDIDATES); do \
	        "$$python" -c '$(FITS)' 2>/dev/null && found="$$python" && break; \
	    done; \
	    test -n "$$found" || { echo "make: no Python 3.11 or 3.12 with venv found; install one (on" \
	        "Debian: apt install python3-venv) or say where: make install PYTHON=/path/to/python"; \
	        exit 1; }; \
	    echo "== .venv with $$("$$found" --version)"; "$$found" -m venv --clear .venv; }
	@echo "== installing pinned packages into .venv: 1-2 minutes, about 500 MB to download, 1.7 GB on disk"
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable '.[world]'
	@touch $@

.venv/.complete: .venv/.installed
	@echo "== adding the tools of the tests: PyTorch to compare with, linter, type checker"
	@$(PIP) --no-build-isolation --editable '.[world,convert,parity,int8,gcs,dev]'
	@echo "== adding the compiler for TPUs in a folder of its own: jax looks for a TPU where it finds it"
	@$(PIP) --no-deps --upgrade --target .venv/tpu libtpu
	@touch $@
