# The verbs of this project. `make run` and `make test` set up everything they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find cpp src -type f \( -name '*.cpp' -o -name '*.h' -o -name '*.py' \)) CMakeLists.txt pyproject.toml

.PHONY: run test check parity native bench fix clean

run: $(VENV)/.installed
	@echo "A demonstration model of 8.6 million parameters reads src/loqal/assets/receipt.png. A real one: $(BIN)/loqal run MODEL.gguf"
	@$(BIN)/loqal run demo "Receipt to JSON." src/loqal/assets/receipt.png

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not parity"

check: $(VENV)/.check
	$(BIN)/ruff check src tests training benchmarks tools
	$(BIN)/ruff format --check src tests training benchmarks tools
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(shell find cpp -name '*.cpp' -o -name '*.h')
	$(BIN)/python tools/size_report.py

# Compares live with transformers, in an environment of its own: torch is no dependency of loqal. With PEER=1 also with
# llama.cpp, which takes ten to twenty minutes to build.
parity: $(VENV)-parity/.installed
	$(if $(PEER),CMAKE_ARGS=-DGGML_NATIVE=ON $(VENV)-parity/bin/pip install --quiet llama-cpp-python==0.3.36)
	$(VENV)-parity/bin/python -m pytest -m parity -s tests

# The C++ tests by themselves: every instruction set, the sanitizers, and ARM under emulation where qemu is installed.
native: $(VENV)/.check
	tools/native_tests.sh

bench: $(VENV)/.test
	$(BIN)/python benchmarks/run.py

fix: $(VENV)/.check
	$(BIN)/ruff check --fix src tests training benchmarks tools
	$(BIN)/ruff format src tests training benchmarks tools
	$(BIN)/clang-format -i $(shell find cpp -name '*.cpp' -o -name '*.h')

clean:
	rm -rf build $(VENV) $(VENV)-parity

$(VENV)/.python:
	@sh tools/prerequisites.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

$(VENV)/.installed: $(VENV)/.python $(SOURCES)
	$(BIN)/pip install --quiet .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/pip install --quiet ".[test]"
	touch $@

$(VENV)/.check: $(VENV)/.test
	$(BIN)/pip install --quiet ".[test,check]"
	touch $@

$(VENV)-parity/.installed: $(SOURCES)
	@sh tools/prerequisites.sh $(PYTHON)
	test -d $(VENV)-parity || $(PYTHON) -m venv $(VENV)-parity
	$(VENV)-parity/bin/pip install --quiet --upgrade pip
	$(VENV)-parity/bin/pip install --quiet torch==2.13.0
	$(VENV)-parity/bin/pip install --quiet ".[test]" "transformers==5.23.*"
	touch $@
