# Every target sets up what it needs. `make demo` and `make test` are all a newcomer has to know.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
PYTHON := $(CURDIR)/.venv/bin/python

# QGIS needs no screen here.
export QT_QPA_PLATFORM := offscreen

.PHONY: setup engine-python build install-plugin package resources demo test lint bench bench-quality screenshots

setup:  ## Install QGIS where it is missing and make .venv; nothing where both are there.
	@tools/set_up.sh

engine-python:  ## Print the path of the Python the engine runs on.
	@tools/set_up.sh >&2
	@echo $(PYTHON)

build: setup  ## Assemble build/scdm_qgis, the folder QGIS loads.
	@$(PYTHON) -m tools.build_plugin

install-plugin: build  ## Put the plugin into the current user's default QGIS profile and enable it.
	@$(PYTHON) -m tools.install_plugin

package: build  ## Make the installable zip in dist/.
	@$(PYTHON) -m tools.package

resources: setup  ## Check that the icon list compiles; the plugin loads icons by path and ships no compiled resources.
	@mkdir -p build
	pyrcc5 resources.qrc | sed 's/^from PyQt5 import/from qgis.PyQt import/' >build/resources_rc.py
	@$(PYTHON) -c 'import runpy; runpy.run_path("build/resources_rc.py")'

demo: setup  ## Train a tiny cascade on one made-up scene, reconstruct another, evaluate it.
	@$(PYTHON) -m tools.demo

test: build  ## Run every test, those inside QGIS included.
	$(PYTHON) -m pytest

lint: setup  ## Check the sources: style, types, who imports whom, security.
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) .venv/bin/lint-imports
	$(PYTHON) -m bandit --quiet --recursive scdm_qgis --configfile pyproject.toml

bench: setup  ## Run every benchmark.
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(PYTHON) -m benchmarks.$$(basename $$script .py); done

bench-quality: setup  ## Print the table of results on real scenes.
	@OMP_NUM_THREADS=1 $(PYTHON) -m benchmarks.quality

screenshots: build  ## Take the pictures of the real QGIS in README and docs.
	@$(PYTHON) -m tools.screenshots
