# make quickstart   train, encode, index and evaluate on NoisyMnist mosaics, four to ten minutes on two CPU cores
# make copies       find edited copies among pictures, about five minutes on two CPU cores
# make test         run the tests
# make test-gpu     run the tests, three benchmarks and a torchrun on this machine's GPUs
# make lint         check the code's style
# Each sets up .venv by itself, once. PYTHON chooses the interpreter of the set-up.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := setup.py equihash/_hash.pxd equihash/_checksum.pyx equihash/search/_index.pyx equihash/kernels/_first_layer.pyx \
	equihash/kernels/_max_pool.pyx

TASK := FastMnistMosaic
LABELS := data/labels/$(TASK)/quickstart.hdf5
TABLE := -v quickstart

DEMONSTRATION := data/demonstration

.PHONY: quickstart copies test test-gpu lint clean

quickstart: .venv/built $(LABELS)
	$(BIN)/python train.py $(TASK) ShannonHamming $(TABLE) -i 0 --precision auto
	$(BIN)/python train.py $(TASK) ShannonHamming $(TABLE) -i 1 --precision auto
	$(BIN)/python encode.py $(TASK) quickstart ShannonHamming $(TABLE) -i 0 --precision auto --build_index
	$(BIN)/python encode.py $(TASK) quickstart ShannonHamming $(TABLE) -i 1 --precision auto --build_index
	$(BIN)/python evaluate_binary_equihash.py $(TASK) quickstart ShannonHamming $(TABLE) -i all --nb_lookups 1 64

$(LABELS): | .venv/built
	$(BIN)/python generate_labels.py $(TASK) quickstart -b10000 -d100000 -p10000 -n10000 -t10000 -m 2 2

copies: .venv/built $(DEMONSTRATION)/banks/train.hdf5 $(DEMONSTRATION)/banks/valid.hdf5
	$(BIN)/python train.py PictureCopies ShannonHamming -v demonstration -i 0 --precision auto
	$(BIN)/python prepare_data.py dead_leaves --folder $(DEMONSTRATION)/pictures --nb_pictures 1000 --nb_copies 100 -s 3
	$(BIN)/python find_copies.py $(DEMONSTRATION)/pictures -v demonstration -i 0 --nb_lookups 16
	$(BIN)/python benchmarks/found_copies.py data/experiments/PictureCopies/ShannonHamming/demonstration/current/copies_pictures_*/copies.json

$(DEMONSTRATION)/banks/%.hdf5: | .venv/built
	$(BIN)/python prepare_data.py dead_leaves --folder $(DEMONSTRATION)/$* --nb_pictures $(NB_$*) -s $(SEED_$*)
	$(BIN)/python prepare_data.py pictures --source $(DEMONSTRATION)/$* --split $* --banks $(DEMONSTRATION)/banks

NB_train := 5000
NB_valid := 300
SEED_train := 1
SEED_valid := 2

test: .venv/built .venv/tested
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-gpu: .venv/built .venv/tested
	$(BIN)/python -c "import torch; print(torch.cuda.get_device_name(), 'torch', torch.__version__)"
	$(BIN)/python -m pytest -n auto --dist worksteal
	$(BIN)/python benchmarks/train_step.py -d cuda
	$(BIN)/python benchmarks/encode.py -d cuda --size 400000
	$(BIN)/python benchmarks/natural_mosaics.py -d cuda
	$(BIN)/python -m torch.distributed.run --nproc_per_node gpu train.py $(TASK) ShannonHamming --no_save \
		-a nb_steps:20 eval_freq:20 eval_size:1000

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
