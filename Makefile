# `make quickstart` and `make test` are all a new clone needs.

CARGO_FLAGS := --release --locked
export COHORT_DATA ?= $(abspath $(wildcard ../shared/data))

.PHONY: help setup build quickstart test foreign lint

help:
	@echo "make quickstart   set up, build, and run pipelines/quickstart.yaml"
	@echo "make test         set up and run all tests"
	@echo "make foreign      export torchvision's models with PyTorch and import each (3 GB of packages)"
	@echo "make setup        fetch the runtime libraries into .runtime/ (GPU=1 with CUDA)"
	@echo "make build        set up and build target/release/cohort"
	@echo "make lint         formatting and clippy"

setup:
	@python3 scripts/setup.py

build: setup
	cargo build $(CARGO_FLAGS)

quickstart: build
	target/release/cohort run pipelines/quickstart.yaml

test: setup
	cargo test $(CARGO_FLAGS)

foreign: setup target/foreign-venv/installed
	target/foreign-venv/bin/python scripts/foreign-models.py target/foreign
	cargo run $(CARGO_FLAGS) --example import_folder -- target/foreign

target/foreign-venv/installed: tests/requirements-foreign.txt
	python3 -m venv target/foreign-venv
	target/foreign-venv/bin/pip install --quiet -r $<
	touch $@

lint: setup
	cargo fmt --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
