# `make quickstart` and `make test` are all a new clone needs.

CARGO_FLAGS := --release --locked
export COHORT_DATA ?= $(abspath $(wildcard ../shared/data))

.PHONY: help setup build quickstart test lint

help:
	@echo "make quickstart   set up, build, and run pipelines/quickstart.yaml"
	@echo "make test         set up and run all tests"
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

lint: setup
	cargo fmt --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
