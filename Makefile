# make demo   set up, generate the demo data, train a small Mask R-CNN on it, evaluate it and draw its predictions
# make demo-seg  the same with UperNet on semantic masks
# make demo-search  search scan directions on generated textures, train what was found and a fixed model, draw both
# make test   set up, lint, check the types, run the tests
# make setup  only set up: everything goes into .venv; a second run skips what is up to date
# make lint   format and lint, fixing what can be fixed
# make clean  remove what the other targets made, except .venv
#
# PYTHON=python3.12 chooses the interpreter, TORCH="torch==2.9.1 torchvision==0.24.1" other versions.

PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NATIVE := $(wildcard mmlocalmamba/ops/csrc/*)

.PHONY: demo demo-seg demo-search test setup lint clean

setup: $(READY)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mmlocalmamba needs Python 3.10 or newer: make PYTHON=python3.12")'
	@echo "==> 1/3 virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

# opencv-python and opencv-python-headless come as dependencies of the mm packages and overwrite each other's files. The
# headless one must come last: the other one needs libGL, which a bare machine does not have.
$(READY): setup.py mmlocalmamba/version.py $(wildcard requirements/*.txt) $(NATIVE) | $(VENV)/bin/python
	@echo "==> 2/3 PyTorch, MMDetection, MMSegmentation and what they need"
	$(BIN)/pip install -r requirements/build.txt -r requirements/runtime.txt -r requirements/mminstall.txt -r requirements/tests.txt $(TORCH)
	$(BIN)/pip install --force-reinstall --no-deps $$(grep -h '^opencv-python-headless' requirements/mminstall.txt)
	@echo "==> 3/3 mmlocalmamba and its C++ scan"
	$(BIN)/pip install -v --no-build-isolation --no-deps -e . 2>&1 | tee $(VENV)/build.log | grep -A 1 'mmlocalmamba: the C++ scan' || true
	@$(BIN)/python -c 'import mmlocalmamba' || (tail -n 40 $(VENV)/build.log; exit 1)
	$(BIN)/python -m mmlocalmamba.compat enable
	$(BIN)/python tools/doctor.py
	@touch $@

DEMO := configs/demo/mask_rcnn_localvmamba_micro_shapes.py
DEMO_DIR := work_dirs/demo

data/shapes/.complete: | $(READY)
	@echo "==> generating the demo data in data/shapes"
	$(BIN)/python tools/make_demo_data.py data/shapes
	@touch $@

demo: $(READY) data/shapes/.complete
	$(BIN)/python tools/train.py $(DEMO) --work-dir $(DEMO_DIR)
	$(BIN)/python tools/test.py $(DEMO) "$$(cat $(DEMO_DIR)/last_checkpoint)" --work-dir $(DEMO_DIR) --show-dir $(DEMO_DIR)/pictures
	@echo "==> pictures of the predictions: $(DEMO_DIR)/pictures"

SEG_DEMO := configs/demo/upernet_localvmamba_micro_shapes.py
SEG_DEMO_DIR := work_dirs/demo-seg

demo-seg: $(READY) data/shapes/.complete
	$(BIN)/python tools/train.py $(SEG_DEMO) --work-dir $(SEG_DEMO_DIR)
	$(BIN)/python tools/test.py $(SEG_DEMO) "$$(cat $(SEG_DEMO_DIR)/last_checkpoint)" --work-dir $(SEG_DEMO_DIR) --show-dir $(SEG_DEMO_DIR)/pictures
	@echo "==> pictures of the predictions: $(SEG_DEMO_DIR)/pictures"

SEARCH_DEMO_DIR := work_dirs/demo-search

demo-search: $(READY)
	$(BIN)/python tools/search/demo.py --work-dir $(SEARCH_DEMO_DIR)

test: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --durations=10

lint: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf build dist *.egg-info data/shapes $(DEMO_DIR) $(SEG_DEMO_DIR) $(SEARCH_DEMO_DIR) .pytest_cache .mypy_cache .ruff_cache .hypothesis
