# Two commands do all the set-up: `make demo` and `make test`.
PYTHON := .venv/bin/python
# Kills of the random fault loops: few in `make test`, all of them in `make faults`.
KILLS ?= 8
# Most of a fault test is waiting, so four tests at a time keep two cores busy. They share one stack.
AT_A_TIME := -n 4 --dist loadfile --durations=40

.PHONY: help venv demo test check faults soak bench generated lock up down clean

help:
	@echo "make venv       only .venv with what the scripts need, for your own Kafka and AWS"
	@echo "make demo       run the whole pipeline on the embedded stack, from a CSV to a page"
	@echo "make test       run all tests on the embedded stack"
	@echo "make check      format, lint, types and the tests that need no stack"
	@echo "make faults     run the fault tests with their full counts (long)"
	@echo "make soak       half an hour of everything going wrong at random times"
	@echo "make bench      measure what benchmarks/README.md claims (long)"
	@echo "make generated  write anew the files that are generated from the definitions"
	@echo "make lock       write requirements.lock anew"
	@echo "make up         start the embedded stack        make down   stop it"
	@echo "make clean      stop it and remove its data and .venv"

venv: .venv/product
	@echo "Enter it with: . .venv/bin/activate"

demo: .venv/local
	@$(PYTHON) -m local run sh samples/demo.sh

test: .venv/dev
	KILLS=$(KILLS) $(PYTHON) -m pytest $(AT_A_TIME)

check: .venv/dev
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy
	$(PYTHON) -m pytest -n 2 --quiet tests/unit

faults: .venv/dev
	KILLS=100 $(PYTHON) -m pytest $(AT_A_TIME) --timeout 0 tests/faults

soak: .venv/dev
	SOAK_SECONDS=1800 $(PYTHON) -m pytest -s --timeout 0 tests/faults/test_soak.py

bench: .venv/dev
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.landing
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.decoding
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.replay
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.queries
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.scale
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.prices
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.coverage
	$(PYTHON) -m local run $(PYTHON) -m benchmarks.dynamodb

generated: .venv/dev
	$(PYTHON) -m deploy.generated

lock: .venv/dev
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate requirements.txt --output-file requirements.lock

up: .venv/local
	@$(PYTHON) -m local up

down: .venv/local
	@$(PYTHON) -m local down

clean:
	@test ! -x $(PYTHON) || $(PYTHON) -m local down --wipe
	rm -rf .venv .local

# Python compiles a module when it is first imported: compiling all of them at once would take a third of the installation.
INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile

.venv/bin/python:
	@python3 -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	python3 -m venv .venv

.venv/product: requirements.txt | .venv/bin/python
	@echo "Installing what the scripts need into .venv, once; it takes a minute or some …"
	$(INSTALL) -r requirements.txt
	@touch $@

.venv/local: requirements.txt requirements-local.txt | .venv/bin/python
	@echo "Installing what the scripts and the embedded stack need into .venv, once; it takes a minute or some …"
	$(INSTALL) -r requirements-local.txt
	@touch $@ .venv/product

.venv/dev: requirements-dev.txt requirements-local.txt requirements.txt | .venv/bin/python
	@echo "Installing what the scripts, the embedded stack and the tests need into .venv, once; it takes a minute or some …"
	$(INSTALL) -r requirements-dev.txt
	@touch $@ .venv/local .venv/product
