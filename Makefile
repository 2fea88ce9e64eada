# The few commands worth remembering. `make` alone explains them.
#
# Nothing here needs root or sudo. What is missing is named, with the command that installs it; an
# agent asked for by AGENT= is installed into Hangar's own data directory, through npm.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Everything is built for a named target, so that the static link leaves build scripts alone.
TRIPLE = $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RELEASE = $(TARGET_DIR)/$(TRIPLE)/release
PROGRAMS = -p cli -p agentd -p agent -p sandbox --bins
REAL_PARTS = $(TARGET_DIR)/real-parts.txt

# What `make run` passes on.
REPO ?=
PROMPT ?=
AGENT ?=
JSON ?=
KEEP ?=
export REPO PROMPT AGENT JSON KEEP

.PHONY: help run test bench lint build tools parts

help: ## Show this
	@printf 'Hangar: background coding agents in sandboxes on your own machine\n\n'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@printf '\nmake run takes, all optional:\n'
	@printf '  REPO=/path/to/repository   where to work (this checkout)\n'
	@printf "  PROMPT='what to do'        what the agent is asked\n"
	@printf '  AGENT=built-in|opencode    which agent works (built-in)\n'
	@printf '  JSON=1                     print one JSON document on standard output\n'
	@printf '  KEEP=1                     leave the server running afterwards\n'
	@printf '\nWith ANTHROPIC_API_KEY or OPENAI_API_KEY set, that model does the work; without, a rehearsal.\n'

run: build ## Do one whole job: prompt, agent in a sandbox, commit, push, pull request
	@set -- try; \
	if [ -n "$$REPO" ]; then set -- "$$@" --repository "$$REPO"; fi; \
	if [ -n "$$PROMPT" ]; then set -- "$$@" --prompt "$$PROMPT"; fi; \
	if [ -n "$$AGENT" ]; then set -- "$$@" --agent "$$AGENT"; fi; \
	if [ -n "$$JSON" ]; then set -- "$$@" --json; fi; \
	if [ -n "$$KEEP" ]; then set -- "$$@" --keep; fi; \
	case "$$AGENT" in ''|built-in) ;; *) "$(RELEASE)/hangar" toolkit install "$$AGENT" >&2;; esac; \
	exec "$(RELEASE)/hangar" "$$@"

test: tools parts ## Check format and lints, then run every test against the real parts
	@$(CARGO) fmt --all --check || { echo 'hint: cargo fmt --all' >&2; exit 1; }
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@$(CARGO) build --locked $(PROGRAMS)
	@rm -f "$(REAL_PARTS)"
	@HANGAR_REAL_PARTS="$(REAL_PARTS)" $(CARGO) test --locked --workspace
	@.ci/real-parts "$(REAL_PARTS)"

bench: build ## Measure the promised times and write target/bench/report.json
	@$(CARGO) bench --locked -p cli --bench promises

lint: tools ## Check format, lints and dependencies
	@$(CARGO) fmt --all --check || { echo 'hint: cargo fmt --all' >&2; exit 1; }
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources; \
	else echo 'Dependencies were not checked: cargo install --locked cargo-deny' >&2; fi

build: tools ## Build the programs, optimised
	@$(CARGO) build --locked --release $(PROGRAMS)

# Each missing tool is named with the command that brings it.
tools:
	@missing=0; \
	need() { command -v "$$1" >/dev/null 2>&1 || { echo "missing: $$1 ($$2)" >&2; echo "hint: $$3" >&2; missing=1; }; }; \
	need git 'repositories are cloned, served and pushed with it' 'apt-get install git'; \
	need cc 'SQLite and the TLS library are compiled from C' 'apt-get install gcc libc6-dev'; \
	need cargo 'it builds everything' 'install rustup, then: rustup toolchain install stable'; \
	[ $$missing = 0 ] || exit 1; \
	if ! $(CARGO) --version >/dev/null 2>&1; then \
	  echo 'missing: a Rust toolchain, 1.95 or newer' >&2; \
	  echo 'hint: rustup toolchain install stable' >&2; exit 1; fi

# What only the tests need.
parts:
	@missing=0; \
	need() { command -v "$$1" >/dev/null 2>&1 || { echo "missing: $$1 ($$2)" >&2; echo "hint: $$3" >&2; missing=1; }; }; \
	need skopeo 'tests fill a registry with it' 'apt-get install skopeo'; \
	need docker-registry 'tests pull base images from it' 'apt-get install docker-registry'; \
	need umoci 'tests make base images with it' 'apt-get install umoci'; \
	need busybox 'base images of tests hold it' 'apt-get install busybox-static'; \
	[ $$missing = 0 ] || exit 1
