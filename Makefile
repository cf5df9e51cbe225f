# The only commands to learn.
.PHONY: help install demo up test check bench chaos cluster-test simulate runtimes-test proto
.DEFAULT_GOAL := help

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install:  ## prepare .venv: lambent and what its tests need
	@scripts/install.sh

demo: install  ## the main job, end to end: a photograph in one bucket, its thumbnail in another (PHOTO=path)
	@.venv/bin/python examples/image_resize/demo.py $(if $(PHOTO),--photo "$(PHOTO)")

up: install  ## start a server and stay
	@.venv/bin/lambent up

check: install  ## lint, types, import contracts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test: check  ## check, then every test
	@scripts/install.sh --tests
	.venv/bin/python -m pytest -n 2 --dist loadfile

bench: install  ## speed, as ratios against baselines in the same run
	.venv/bin/python -m benchmarks

proto: install  ## make the Python stubs of proto/ again
	@.venv/bin/python scripts/generate_stubs.py

chaos: install  ## kill everything at random under load: no accepted event may be lost (SECONDS=of each place)
	@PYTHONPATH=tests .venv/bin/python -m chaos $(if $(SECONDS),--seconds $(SECONDS))

runtimes-test: install  ## every runtime, end to end, with native clients and Rust compiled once: ten minutes
	@scripts/install.sh --tests
	LAMBENT_TEST_BUILD=1 .venv/bin/python -m pytest tests/e2e/test_runtimes_*.py tests/e2e/test_isolation_runtimes.py tests/e2e/test_extensions*.py

simulate: install  ## a million invocations on 300 executors under every fault, in virtual time (SEED=, RUNS=)
	@PYTHONPATH=tests PYTHONHASHSEED=0 .venv/bin/python -m simulation $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS))

cluster-test: install  ## three gateways, two schedulers, three executors; each role killed under load (SECONDS=90)
	@PYTHONPATH=tests .venv/bin/python -m cluster $(if $(SECONDS),--seconds $(SECONDS))
