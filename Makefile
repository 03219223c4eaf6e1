# Entry points for people and for CI. Each target is one command; what it does is in the script it calls.
# Everything that is downloaded or built goes to PILOTLIGHT_CACHE (default ~/.cache/pilotlight).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ENV := settings=$$(.ci/install/env) && eval "$$settings"

.PHONY: help demo test build fmt lint bench clean-cache

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: ## one instance's whole life on real parts: Consul, libtorch, a real model (first run: minutes; then seconds)
	@examples/demo/run

test: ## everything CI checks, installing what is missing first
	@.ci/test

build: ## both binaries in release mode
	@.ci/install/rust
	@.ci/install/libtorch
	@$(ENV) && cargo build --release --locked -p pilotlight -p model-runtime && ls -l "$$CARGO_TARGET_DIR"/release/{supervisor,model-runtime}

fmt: ## format the code
	@$(ENV) && cargo fmt --all

lint: ## the checks that need no test run
	@.ci/test fmt scripts deny clippy

bench: ## ours against other inits, other inference servers, and in containers the shell script it replaces
	@.ci/install/packages test
	@.ci/install/packages bench
	@.ci/install/libtorch
	@.ci/install/consul
	@.ci/install/model
	@benches/init/run
	@benches/inference/run
	@.ci/with-docker benches/lifecycle/run

clean-cache: ## remove everything that was downloaded or built
	@.ci/clean-cache
