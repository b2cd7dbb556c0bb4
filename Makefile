# The verbs of this project; each sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find cpp src -type f \( -name '*.cpp' -o -name '*.h' -o -name '*.py' \)) CMakeLists.txt pyproject.toml
CODE := src tests training benchmarks tools
PIP := pip install --quiet -c constraints.txt
WHEEL := dist/local/.built
# Replaces an earlier build of the same version, since pip takes that for the same: $(call install,pip install,[extras]).
install = $(1) "$$(ls dist/local/loqal-*.whl)$(2)" && $(1) --force-reinstall --no-deps dist/local/loqal-*.whl
# After `make dev` the environment holds the sources themselves, and nothing is installed over them.
READY := $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.test)
# Tests to run, as pytest takes them: make test T=tests/engine
T ?=

.PHONY: help run test unit dev check parity native bench fix lock clean

help: ## list these verbs
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

run: $(VENV)/.installed ## read a receipt with the model in the package
	@echo "A demonstration model of 8.6 million parameters reads src/loqal/assets/receipt.png. A real one: $(BIN)/loqal run MODEL.gguf"
	@$(BIN)/loqal run demo "Receipt to JSON." src/loqal/assets/receipt.png

test: $(READY) ## all tests, or those of T=path
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not parity" $(T)

unit: $(VENV)-unit/.installed ## tests that need neither a compiler nor a server
	PYTHONPATH=$(CURDIR)/src $(VENV)-unit/bin/python -m pytest -n auto --dist loadfile -m unit --without-extension $(T)

dev: $(VENV)/.dev ## an editable environment: an edit in src/ or cpp/ is what the next test runs

check: $(VENV)/.check ## formatting, types, import contract, sizes
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(shell find cpp -name '*.cpp' -o -name '*.h')
	$(BIN)/python tools/size_report.py

# An environment of its own, since torch is no dependency. With PEER=1 also against llama.cpp, which takes ten to twenty
# minutes to build.
parity: $(VENV)-parity/.installed ## live comparison with transformers
	$(if $(PEER),CMAKE_ARGS=-DGGML_NATIVE=ON $(VENV)-parity/bin/pip install --quiet llama-cpp-python==0.3.36)
	$(VENV)-parity/bin/python -m pytest -m parity -s tests

native: $(VENV)/.check ## C++ tests: every instruction set, sanitizers, ARM under emulation
	tools/native_tests.sh

bench: $(READY) ## speed of this machine's kernels
	$(BIN)/python benchmarks/run.py

fix: $(VENV)/.check ## format, and mend what the linter can
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/clang-format -i $(shell find cpp -name '*.cpp' -o -name '*.h')

lock: $(VENV)/.check ## renew constraints.txt from the versions installed here
	{ head -n 1 constraints.txt; $(BIN)/pip freeze --exclude loqal; } > constraints.new && mv constraints.new constraints.txt

clean: ## remove environments and builds
	rm -rf build dist $(VENV) $(VENV)-unit $(VENV)-parity

$(VENV)/.python:
	@sh tools/prerequisites.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

# One wheel serves every environment.
$(WHEEL): $(VENV)/.python $(SOURCES)
	rm -rf $(dir $@)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir $(dir $@) .
	touch $@

$(VENV)/.installed: $(WHEEL)
	$(call install,$(BIN)/$(PIP),)
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/$(PIP) $$($(BIN)/python tools/requirements.py test)
	touch $@

$(VENV)/.check: $(READY)
	$(BIN)/$(PIP) $$($(BIN)/python tools/requirements.py check)
	touch $@

$(VENV)/.dev: $(VENV)/.python
	$(BIN)/$(PIP) $$($(BIN)/python tools/requirements.py build run test check)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -C editable.rebuild=true -C build-dir=build/dev -e .
	touch $@

$(VENV)-unit/.installed: constraints.txt pyproject.toml
	test -d $(VENV)-unit || $(PYTHON) -m venv $(VENV)-unit
	$(VENV)-unit/bin/$(PIP) $$($(PYTHON) tools/requirements.py run test)
	touch $@

$(VENV)-parity/.installed: $(WHEEL)
	test -d $(VENV)-parity || $(PYTHON) -m venv $(VENV)-parity
	$(VENV)-parity/bin/pip install --quiet --upgrade pip
	$(VENV)-parity/bin/pip install --quiet torch==2.13.0
	$(VENV)-parity/bin/pip install --quiet "transformers==5.23.*"
	$(call install,$(VENV)-parity/bin/pip install --quiet,[test])
	touch $@
