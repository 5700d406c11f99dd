# Habitue on a fresh machine that has only Python (3.11 to 3.14) and make. No root, no other service.
#
#   make demo       install, then the sealed forecast on a real shop
#   make test       install with the development tools, then formatting, lint, types and the fast tests
#   make test-all   make test, then the slow tests: the browser, the built wheel, the whole demo
#   make docs       write the generated pages again
#   make lock       resolve constraints.txt again
#   make clean      remove what the others made
#
# PYTHON=/path/to/python3.12    the Python to build .venv with (default: the first that fits)
# TORCH_INDEX=URL               take torch, and nothing else, from this package index (README: which, and when)
#
# Written for GNU make 3.81, which is what macOS has. A second run skips what the stamp files in .venv say is done.

PYTHON ?=
TORCH_INDEX ?=
TORCH := 2.13.0

BIN := .venv/bin
CODE := src tests benchmarks
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
BREW_OPENMP := /opt/homebrew/opt/libomp/lib
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))

.PHONY: help demo test test-all docs lock clean
.DELETE_ON_ERROR:

help:
	@sed -n '3,11p' Makefile | cut -c 3-

demo: .venv/.core
	$(BIN)/habitue demo

# Two workers with one thread each: the same sums in the same order on any machine, and both cores busy.
test: .venv/.dev
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy --strict
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile -rs

# Depends on `test`, so `make test test-all` runs every test once. One process: these tests measure, and use every core.
test-all: test
	$(BIN)/pytest -m slow -rs --durations 10

docs: .venv/.core
	$(BIN)/python -c 'from pathlib import Path; from habitue.core.schemas import to_markdown; \
	  Path("docs/schemas.md").write_text(to_markdown(), encoding="utf-8")'
	$(BIN)/python benchmarks/tables.py

# `-P` holds torch at one release: the newest whose CPU and CUDA builds were both tried (docs/decisions/001).
lock: .venv/.made
	$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade -P torch==$(TORCH) \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" --quiet --output-file constraints.txt

clean:
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Ask each candidate itself: a name on the PATH may be another version, or a shim with nothing behind it.
.venv/.made:
	@python="$(PYTHON)"; \
	for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if test -z "$$python" && "$$name" -c '$(FITS)' 2>/dev/null; then python=$$name; fi; \
	done; \
	if test -z "$$python"; then \
	  echo "make: Habitue needs Python 3.11 to 3.14, and the PATH has none (python3 is: $$(python3 -V 2>&1))." \
	    "Install one, or say where it is: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! "$$python" -c '$(FITS)'; then \
	  echo "make: PYTHON=$$python is $$("$$python" -V 2>&1), and Habitue needs Python 3.11 to 3.14." \
	    "Say where one is: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  case "$$python" in *python3.*) package=$$(basename "$$python")-venv;; *) package=python3-venv;; esac; \
	  echo "make: $$python cannot make a virtual environment: the package $$package is missing." \
	    "Install it (Debian, Ubuntu: sudo apt install $$package), then run make again." >&2; exit 1; \
	fi; \
	"$$python" -m venv .venv && touch $@

# On macOS LightGBM's wheel looks for OpenMP where Homebrew would put it; we let it find torch's: docs/decisions/003.
.venv/.core: .venv/.made pyproject.toml constraints.txt
ifneq ($(TORCH_INDEX),)
	$(PIP) --no-deps --index-url "$(TORCH_INDEX)" torch
endif
	$(PIP) --editable .
ifeq ($(shell uname -s),Darwin)
	@library=$$(echo .venv/lib/python3*/site-packages/lightgbm/lib/lib_lightgbm.dylib); \
	if grep -q $(BREW_OPENMP) "$$library"; then \
	  install_name_tool -rpath $(BREW_OPENMP) @loader_path/../../torch/lib "$$library" && \
	  codesign --force --sign - "$$library"; \
	fi
endif
	@touch $@

.venv/.dev: .venv/.core
	$(PIP) --editable '.[dev]'
	@touch $@
