# make reproduce            every figure and table of the study, on the offline demo
# make reproduce STUDY=sample FACES=<folder with manifest.csv>      the same on real pictures
# make reproduce STUDY=full                                         the report's configuration
# make test                 the tests
STUDY ?= demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export STUDY FACES

.PHONY: reproduce test lint notebooks clean

reproduce: $(VENV)/installed $(if $(filter sample,$(STUDY)),$(VENV)/installed-sample)
	@$(BIN)/python -m src.reproduce

# The notebooks as committed: executed on the demo, in place.
notebooks: $(VENV)/installed
	@STUDY=demo $(BIN)/python -m src.reproduce --in-place
	@$(BIN)/python -m src.notebooks

test: $(VENV)/installed $(VENV)/installed-dev
	@env -u STUDY -u FACES $(BIN)/python -m pytest -n 2 --dist loadfile --cov=src --cov-report=term

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version)'
	@echo "Setting up $(VENV) (once; one to three minutes) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt | $(BIN)/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-%: requirements-%.txt | $(VENV)/installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

clean:
	rm -rf data/demo data/tiny models/demo models/tiny figures/tiny
