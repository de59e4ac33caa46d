# `make quickstart` and `make test` are all a new clone needs.

CARGO_FLAGS := --release --locked
export COHORT_DATA ?= $(abspath $(wildcard ../shared/data))

# Of `make fuzz`.
FUZZ_MINUTES ?= 30

.PHONY: help setup build quickstart test foreign foreign-latency fuzz lint

help:
	@echo "make quickstart   set up, build, and run pipelines/quickstart.yaml"
	@echo "make test         set up and run all tests"
	@echo "make foreign      export torchvision's models with PyTorch, import and verify each (3 GB of packages)"
	@echo "make foreign-latency  how fast they run as exported and as emitted again, in turns"
	@echo "make fuzz         import random models for FUZZ_MINUTES=30 (nightly compiler, cargo install cargo-fuzz)"
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

# Of some models only: FOREIGN="resnet18 mobilenet_v2".
foreign-latency: setup target/foreign-venv/installed
	target/foreign-venv/bin/python scripts/foreign-models.py target/foreign $(FOREIGN)
	cargo run $(CARGO_FLAGS) --example emit_again -- target/foreign $(FOREIGN)

target/foreign-venv/installed: tests/requirements-foreign.txt
	python3 -m venv target/foreign-venv
	target/foreign-venv/bin/pip install --quiet -r $<
	touch $@

# What it finds lies in fuzz/artifacts/import; what was new to it stays in fuzz/corpus/import.
fuzz:
	mkdir -p fuzz/corpus/import
	cargo +nightly fuzz run import fuzz/corpus/import tests/fixtures/onnx tests/fixtures/hostile -- \
		-max_total_time=$$((60 * $(FUZZ_MINUTES))) -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
		-max_len=65536

lint: setup
	cargo fmt --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
