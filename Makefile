# What a person types. `make run` and `make test` need Python 3.11 to 3.13, git and make, nothing else.
#
# .venv holds everything; nothing is installed outside it but the Debian programs named below. What goes into it is
# fixed by hash in the two lock files, the build backend included.

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
RUNTIME := $(VENV)/.runtime-installed
DEVELOP := $(VENV)/.develop-installed
CODE := oscd tests $(wildcard bench compose docs)

# The first of these that is a Python oscd supports makes the environment; PYTHON=… chooses another.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python)
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

# Programs that tests start; each is the name of its Debian package too.
DEBIAN_TEST_PACKAGES := strace prometheus chromium nginx docker-compose

# Test processes side by side, as most tests wait for what they have started; those of one file share what they start.
TEST_PROCESSES ?= 2
PYTEST_ARGS ?=

# Where it is set, each of the thousands of processes that tests start would compile all modules anew, 0.25 s of it.
unexport PYTHONDONTWRITEBYTECODE

BENCH_ARGS ?=
MUTANTS_ARGS ?=
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-config --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml --group build

.PHONY: run cluster test lint fix docs mutants bench lock clean debian-test-packages
.DELETE_ON_ERROR:

run: $(RUNTIME)  ## a node on 127.0.0.1:9000
	@exec $(VENV)/bin/oscd serve

cluster: $(RUNTIME)  ## three nodes on 127.0.0.1, which are gone with Ctrl-C
	@exec $(VENV)/bin/python -m compose.loopback

test: $(DEVELOP) debian-test-packages  ## everything under tests/; PYTEST_ARGS='-k name' for less
	@$(VENV)/bin/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(DEVELOP)  ## style, format, types, known vulnerabilities
	@$(VENV)/bin/ruff check $(CODE)
	@$(VENV)/bin/ruff format --check $(CODE)
	@$(VENV)/bin/mypy --strict $(CODE)
	@.ci/audit $(VENV)/bin/pip-audit requirements-dev.lock

fix: $(DEVELOP)  ## what ruff can mend by itself
	@$(VENV)/bin/ruff check --fix $(CODE)
	@$(VENV)/bin/ruff format $(CODE)

docs: $(DEVELOP)  ## docs/api.md, from the OpenAPI document of a node; docs/settings.md, from the table of settings
	@$(VENV)/bin/python -m docs.reference > docs/api.md.new
	@mv docs/api.md.new docs/api.md
	@$(VENV)/bin/python -m docs.settings_page > docs/settings.md.new
	@mv docs/settings.md.new docs/settings.md

mutants: $(DEVELOP) debian-test-packages  ## break it on purpose: does a test see it? MUTANTS_ARGS='clocks' for less
	@$(VENV)/bin/python -m tests.mutants $(MUTANTS_ARGS)

bench: $(DEVELOP)  ## figures of this machine; BENCH_ARGS for less
	@$(VENV)/bin/python -m bench $(BENCH_ARGS)

lock: $(DEVELOP)  ## newest versions that pyproject.toml allows, with their hashes
	$(LOCK) --output-file requirements.lock
	$(LOCK) --group dev --constraints requirements.lock --output-file requirements-dev.lock

clean:  ## everything made here but data of a node
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# Last thing `venv` makes is pip, so its presence says that the environment is whole.
$(VENV)/bin/pip:
	@for python in $(PYTHONS); do \
		if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then \
			echo "Making $(VENV) with $$python …"; exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "No Python 3.11 to 3.13 with its venv module among: $(PYTHONS). Try: make PYTHON=/path/to/python3.12" >&2; exit 1

$(RUNTIME): requirements.lock pyproject.toml | $(VENV)/bin/pip
	@echo "Installing what oscd needs …"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEVELOP): requirements-dev.lock $(RUNTIME)
	@echo "Installing what tests and checks need …"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

debian-test-packages:
	@for package in $(DEBIAN_TEST_PACKAGES); do \
		command -v $$package >/dev/null && continue; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$package && continue; \
		fi; \
		echo "$$package is missing and could not be installed: tests that need it will say so" >&2; \
	done
