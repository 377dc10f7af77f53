# make reproduce            the figures and tables of the demo, offline
# make reproduce STUDY=faces FACES=folder    the same on your pictures; TRAIN=generator or a+b
# make reproduce STUDY=full                  the report's configuration; EVAL=report or readme
# make extended             after reproduce: every generator trained on in turn
# make beyond               after reproduce: other detectors and trainings (notebook 7)
# make lab                  the notebooks in JupyterLab
# make app                  after reproduce: a page to try pictures on, for this computer only
# make test                 the tests; make coverage: with the share of lines they ran
# make test-jax             those of the networks once more, on JAX instead of TensorFlow
# make lint                 style of code and notebooks
# make bench                how fast, beside other ways; needs an idle machine
# make mutants              do the tests notice planted bugs?
STUDY ?= demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JAX := .venv-jax
JAX_TESTS := src/detectors/models.py $(foreach name,batches spectrum,src/pictures/$(name).py \
	tests/pictures/test_$(name).py) tests/pictures/test_residuals.py \
	$(foreach name,devices explain models training,tests/detectors/test_$(name).py)
# JAX's compiler would take longer to optimise than the tests take to run.
JAX_FLAGS := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
TEST := env -u STUDY -u FACES -u TRAIN -u EVAL $(BIN)/python -m pytest
IN_TURN := -n 2 --dist loadfile --no-loadscope-reorder
export STUDY FACES TRAIN EVAL

.PHONY: reproduce extended beyond lab app test coverage test-jax mutants bench lint notebooks clean

reproduce: $(VENV)/installed
	@$(BIN)/python -m tools.run_notebooks

extended: $(VENV)/installed
	@$(BIN)/python -m src.detectors.extended
	@$(BIN)/python -m tools.run_notebooks 06

beyond: $(VENV)/installed
	@$(BIN)/python -m tools.run_notebooks 07

lab: $(VENV)/installed
	@$(BIN)/python -m jupyter lab notebooks

# What the page needs of notebooks 1 and 3 is made first, with progress: the page would stay empty.
# A panel refuses more than 20 MB, in words; beyond this limit the connection ends without.
app: $(VENV)/installed $(VENV)/installed-app
	@ls "$${TRUE_OR_FAKE_HOME:-.}"/models/$(STUDY)/*probe-controlled.keras > /dev/null 2>&1 || \
		$(BIN)/python -m tools.run_notebooks 01 03
	@$(BIN)/python -m voila notebooks/08_check_your_images.ipynb --no-browser --Voila.ip=127.0.0.1 \
		--Voila.tornado_settings="{'websocket_max_message_size': 100_000_000}"

# The notebooks as committed: executed on the demo, in place.
notebooks: $(VENV)/installed
	@STUDY=demo $(BIN)/python -m tools.run_notebooks --in-place
	@STUDY=demo $(BIN)/python -m tools.run_notebooks --in-place 07
	@$(BIN)/python -m tools.check_notebooks

test: $(VENV)/installed $(VENV)/installed-dev $(VENV)/installed-app
	@$(TEST) $(IN_TURN)

coverage: $(VENV)/installed $(VENV)/installed-dev
	@$(TEST) $(IN_TURN) --cov=src --cov=simulator --cov=tools --cov-report=term

mutants: $(VENV)/installed $(VENV)/installed-dev
	@$(TEST) tests/mutants.py

test-jax: $(JAX)/installed
	@env -u STUDY -u FACES -u TRAIN -u EVAL KERAS_BACKEND=jax XLA_FLAGS="$(JAX_FLAGS)" \
		$(JAX)/bin/python -m pytest -n 2 --dist worksteal $(JAX_TESTS)

bench: $(VENV)/installed $(VENV)/installed-cluster
	@$(BIN)/python -m benchmarks

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
		"Python 3.10 or newer is needed, this is " + sys.version)'
	@echo "Setting up $* (once; one to three minutes) ..."
	@$(PYTHON) -m venv $*
	@echo '*' > $*/.gitignore

$(VENV)/installed: requirements.txt | $(BIN)/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

$(JAX)/installed: requirements-jax.txt requirements.txt requirements-dev.txt | $(JAX)/bin/python
	@$(JAX)/bin/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

$(VENV)/installed-%: requirements-%.txt | $(VENV)/installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

clean:
	rm -rf data/demo data/tiny models/demo models/tiny figures/tiny
