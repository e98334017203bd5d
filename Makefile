# Two commands do all the set-up: `make demo` and `make test`.
PYTHON := .venv/bin/python
# Kills of the random fault loops: few in `make test`, all of them in `make faults`.
KILLS ?= 8
TWO_AT_A_TIME := -n 2 --dist loadfile

.PHONY: help demo test retest faults lint bench up down clean

help:
	@echo "make demo    run the whole pipeline on the embedded stack, from a CSV to a page"
	@echo "make test    run all tests on the embedded stack"
	@echo "make retest  run again what failed last"
	@echo "make faults  run the fault tests with their full counts (long)"
	@echo "make lint    check the style"
	@echo "make bench   measure what benchmarks/README.md claims (long)"
	@echo "make up      start the embedded stack        make down   stop it"
	@echo "make clean   stop it and remove its data and .venv"

demo: .venv/installed
	@$(PYTHON) -m local run sh samples/demo.sh

test: .venv/installed
	KILLS=$(KILLS) $(PYTHON) -m pytest $(TWO_AT_A_TIME)

retest: .venv/installed
	KILLS=$(KILLS) $(PYTHON) -m pytest --last-failed --last-failed-no-failures none

faults: .venv/installed
	KILLS=100 $(PYTHON) -m pytest $(TWO_AT_A_TIME) --timeout 0 tests/faults

lint: .venv/installed
	.venv/bin/ruff check .

bench: .venv/installed
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.landing
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.decoding
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.replay
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.queries
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.dynamodb

up: .venv/installed
	@$(PYTHON) -m local up

down: .venv/installed
	@$(PYTHON) -m local down

clean:
	@test ! -x $(PYTHON) || $(PYTHON) -m local down --wipe
	rm -rf .venv .local

.venv/installed: requirements.txt requirements-dev.txt
	python3 -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(PYTHON) || python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
