# Each target installs what it needs first; the second time that takes a moment and says nothing.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test test-long fuzz soak cost-base bench build lint clean

help:
	@echo 'make demo       see it work: real traffic through a tun, lwIP and a SOCKS5 proxy, all on this machine'
	@echo 'make build      wasm/lwip.wasm, native/tungate.node, dist/'
	@echo 'make test       formatter, linter and all tests; as root also as an unprivileged user'
	@echo 'make test-long  the tests that take minutes'
	@echo 'make fuzz       lwIP and its glue under sanitizers, FUZZ_SECONDS=60 for each of four targets'
	@echo 'make soak       half an hour of load with loss: nothing may grow (SOAK_MINUTES=2 to try it)'
	@echo 'make cost-base  record what each operation costs in calls, instructions and heap, after a change that is meant'
	@echo 'make bench      figures and charts against the bound and BENCH_RIVAL, into docs/BENCHMARKS.md (BENCH_FLAGS=--help tells more)'
	@echo 'make lint       formatter and linter'
	@echo 'make clean      remove what was built'

build:
	@setup/node.sh
	@setup/packages.sh build
	@wasm/build.sh
	@native/build.sh
	@setup/compile.sh

demo: build
	@setup/packages.sh demo
	@node dist/src/tungate.cjs demo

lint:
	@setup/node.sh
	@node_modules/.bin/biome ci --colors=off --log-level=warn .

test: build lint
	@setup/packages.sh test
	@node dist/test/run.js

test-long: build
	@setup/packages.sh test browser fuzz
	@node dist/test/run.js --long

fuzz:
	@setup/packages.sh fuzz
	@test/fuzz/run.sh

soak: build
	@setup/packages.sh soak
	@node_modules/.bin/ava --timeout=24h dist/test/soak/soak.test.js

cost-base: build
	@node dist/test/cost/renew.js

bench: build
	@setup/packages.sh bench
	@node dist/bench/bench.js --write $(BENCH_FLAGS)

clean:
	rm -rf dist build wasm/lwip.wasm wasm/NOTICE.lwip native/tungate.node
