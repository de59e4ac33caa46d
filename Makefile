# `make quickstart` and `make test` are all a new clone needs.

CARGO_FLAGS := --release --locked
export COHORT_DATA ?= $(abspath $(wildcard ../shared/data))

# Duration of `make fuzz`.
FUZZ_MINUTES ?= 30

.PHONY: help setup build without-libtorch quickstart picture test check-export check-latency foreign foreign-latency fuzz sanitize \
	gpu-pack check-gpu-script lint deny

help:
	@echo "make quickstart   set up, build, and run pipelines/quickstart.yaml"
	@echo "make test         set up and run all tests"
	@echo "make check-export    the quick start's export, and the preparation of images, in Python"
	@echo "make check-latency   what bench reports for ONNX Runtime against a plain loop in Python"
	@echo "make foreign      export torchvision's models with PyTorch, import and verify each (3 GB of packages)"
	@echo "make foreign-latency  how fast they run as exported and as emitted again, in turns"
	@echo "make fuzz         import random models for FUZZ_MINUTES=30 (nightly compiler, cargo install cargo-fuzz)"
	@echo "make sanitize     the kernels' tests under AddressSanitizer, on any processor (nightly compiler)"
	@echo "make gpu-pack     pack what scripts/gpu-check.sh needs on a machine with a GPU into .gpu/ (0.4 GB)"
	@echo "make check-gpu-script   a small version of that check, on the CPU"
	@echo "make setup        fetch the runtime libraries into .runtime/ (GPU=1 with CUDA)"
	@echo "make build        set up and build target/release/cohort"
	@echo "make without-libtorch   build target/without-libtorch/cohort, which verifies and benches but does not train"
	@echo "make picture      draw README's picture from the quick start's tables (docs/quickstart.svg)"
	@echo "make lint         formatting, clippy, and links in the documentation"
	@echo "make deny         licences, advisories and sources of the dependencies (cargo install cargo-deny)"

setup:
	@python3 scripts/setup.py

build: setup
	cargo build $(CARGO_FLAGS)

# Builds a program without libtorch in the same target folder; the next `make build` switches back. The result can be
# copied to another machine: all files, or the program alone, which then has tract only. With GPU=1 it includes the CUDA
# provider; CUDA's own libraries must be on that machine.
without-libtorch:
	@TORCH=0 python3 scripts/setup.py
	env -u LIBTORCH -u LIBTORCH_USE_PYTORCH COHORT_PORTABLE=1 cargo build $(CARGO_FLAGS) --no-default-features
	mkdir -p target/without-libtorch
	strip -o target/without-libtorch/cohort target/release/cohort
	rm -f target/without-libtorch/libonnxruntime*
	cp -L $${ORT_DYLIB_PATH:-.runtime/onnxruntime/capi/libonnxruntime.so.1.*} target/without-libtorch/libonnxruntime.so
	providers=.runtime/onnxruntime/capi/libonnxruntime_providers; [ ! -e $${providers}_cuda.so ] || \
		cp -L $${providers}_shared.so $${providers}_cuda.so target/without-libtorch/

quickstart: build
	target/release/cohort run pipelines/quickstart.yaml

# The picture in README.md, from the tables of the quick start.
picture: quickstart
	PATH=target/release:$$PATH python3 scripts/terminal_picture.py docs/quickstart.svg cohort run pipelines/quickstart.yaml

test: setup
	cargo test $(CARGO_FLAGS)

check-export: quickstart target/check-env/installed
	target/check-env/bin/python tests/check_export.py runs/quickstart
	target/check-env/bin/python tests/check_predict.py target/release/cohort

# Takes four minutes; on a busy machine the interval is wide.
check-latency: quickstart target/check-env/installed
	target/check-env/bin/python tests/check_latency.py

target/check-env/installed: tests/requirements.txt
	python3 -m venv target/check-env
	target/check-env/bin/pip install --quiet --only-binary=:all: -r $<
	touch $@

foreign: setup target/foreign-venv/installed
	target/foreign-venv/bin/python scripts/foreign-models.py target/foreign
	cargo run $(CARGO_FLAGS) --example import_folder -- target/foreign

# For some models only: FOREIGN="resnet18 mobilenet_v2".
foreign-latency: setup target/foreign-venv/installed
	target/foreign-venv/bin/python scripts/foreign-models.py target/foreign $(FOREIGN)
	cargo run $(CARGO_FLAGS) --example emit_again -- target/foreign $(FOREIGN)

target/foreign-venv/installed: tests/requirements-foreign.txt
	python3 -m venv target/foreign-venv
	target/foreign-venv/bin/pip install --quiet -r $<
	touch $@

# Findings are written to fuzz/artifacts/import; inputs that reached new code stay in fuzz/corpus/import.
fuzz:
	mkdir -p fuzz/corpus/import
	cargo +nightly fuzz run import fuzz/corpus/import tests/fixtures/onnx tests/fixtures/hostile -- \
		-max_total_time=$$((60 * $(FUZZ_MINUTES))) -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
		-max_len=65536

# Registers are emulated by arrays, so that each float read or written is checked on any processor. Runs on one
# thread, and on three with OpenMP.
sanitize:
	for threads in 1 3; do \
		OMP_NUM_THREADS=$$threads \
		RUSTFLAGS="-Zsanitizer=address --cfg emulated_registers -Clink-args=-Wl,--no-as-needed,-lgomp" \
			cargo +nightly test --locked --manifest-path sanitize/Cargo.toml --target-dir target/sanitize \
			--target x86_64-unknown-linux-gnu || exit 1; \
	done

# Packs what is copied to a machine with a GPU, in pieces; scripts/gpu-check.sh describes the check.
gpu-pack: setup
	scripts/gpu/pack.sh .gpu

# A small version of that check, on the CPU.
check-gpu-script: setup
	scripts/gpu/pack.sh target/gpu-check program
	target/gpu-check/gpu-check.sh --device cpu

lint: setup
	cargo fmt --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	cargo doc $(CARGO_FLAGS) --no-deps --document-private-items --quiet

# Downloads the database of advisories.
deny:
	cargo deny --locked check
