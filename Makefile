# make quickstart   train, encode, index and evaluate on NoisyMnist mosaics, about ten minutes on two CPU cores
# make test         run the tests
# make lint         check the code's style
# Each sets up .venv by itself, once. PYTHON chooses the interpreter of the set-up.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := setup.py equihash/_hash.pxd equihash/_checksum.pyx equihash/search/_index.pyx equihash/kernels/_first_layer.pyx \
	equihash/kernels/_max_pool.pyx

TASK := FastMnistMosaic
LABELS := data/labels/$(TASK)/quickstart.hdf5
TABLE := -v quickstart

.PHONY: quickstart test lint clean

quickstart: .venv/built $(LABELS)
	$(BIN)/python train.py $(TASK) ShannonHamming $(TABLE) -i 0 --precision auto
	$(BIN)/python train.py $(TASK) ShannonHamming $(TABLE) -i 1 --precision auto
	$(BIN)/python encode.py $(TASK) quickstart ShannonHamming $(TABLE) -i 0 --precision auto --build_index
	$(BIN)/python encode.py $(TASK) quickstart ShannonHamming $(TABLE) -i 1 --precision auto --build_index
	$(BIN)/python evaluate_binary_equihash.py $(TASK) quickstart ShannonHamming $(TABLE) -i all --nb_lookups 1 64

$(LABELS): | .venv/built
	$(BIN)/python generate_labels.py $(TASK) quickstart -b10000 -d100000 -p10000 -n10000 -t10000 -m 2 2

test: .venv/built .venv/tested
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

.venv/built: .venv/installed $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	touch $@

.venv/tested: .venv/installed requirements-test.txt
	$(BIN)/python -m pip install -q -r requirements-test.txt
	touch $@

clean:
	rm -rf .venv build equihash/_*.c equihash/_*.so equihash/*/_*.c equihash/*/_*.so
