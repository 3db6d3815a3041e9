# The two commands that matter: make demo, make test. Everything real is in integration/*.sh.

.DEFAULT_GOAL := help
.PHONY: help demo test install lint unit integration bench properties fuzz lab-up lab-down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## show the bridge on a real AD domain, step by step (KEEP=1: leave it running)
	@KEEP="$(KEEP)" integration/demo.sh

test: ## install what is needed and run everything: lint, unit, fuzz, integration, demo
	@integration/test.sh

install: ## install the Debian packages that are missing (as root, or through sudo)
	@integration/install.sh

lint: ## rustfmt, clippy and rustdoc with warnings denied
	@integration/test.sh lint

unit: ## unit, property and documentation tests
	@integration/test.sh unit

integration: ## the tests against a real AD domain, in a lab of their own
	@integration/test.sh install integration

bench: ## both token engines, memory, and the bridge against nginx (ROUNDS=5 REQUESTS=10000)
	@integration/install.sh bench
	@integration/bench.sh

CASES ?= 50000
properties: ## the property tests with many more cases (CASES=50000)
	@PROPTEST_CASES="$(CASES)" cargo test --locked --lib

SECONDS ?= 60
fuzz: ## every decoder of a peer's bytes under libFuzzer (SECONDS=60 for each)
	@integration/fuzz.sh "$(SECONDS)"

lab-up: ## start the lab (Samba AD, Apache, MIT KDC) and leave it running
	@integration/install.sh
	@integration/lab.sh up

lab-down: ## stop the lab and everything in it
	@integration/lab.sh down

clean: ## stop the labs and remove all that was built
	@integration/lab.sh clean
	@KCD_LAB=target/test-lab integration/lab.sh clean
	cargo clean
