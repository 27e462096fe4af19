# make demo   set up, generate the demo data, train a small Mask R-CNN on it, evaluate it and draw its predictions
# make demo-seg  the same with UperNet on semantic masks
# make demo-search  search scan directions on generated textures, train what was found and a fixed model, draw both
# make test   set up, lint, check the types, run the tests
# make test-openmmlab   run the tests with the original OpenMMLab packages and an older PyTorch, in .venv-openmmlab
# make smoke-openmmlab  run a handful of them there
# make setup  only set up: everything goes into .venv; a second run skips what is up to date
# make lint   format and lint, fixing what can be fixed
# make clean  remove what the other targets made, except .venv and .venv-openmmlab
#
# PYTHON=python3.12 chooses the interpreter, TORCH="torch==2.9.1 torchvision==0.24.1" other versions, and TORCH_OPENMMLAB
# those in .venv-openmmlab ("torch==2.14.1 torchvision==0.29.1 numpy==2.2.6" works too). FAMILY=openmmlab makes any target
# there.

PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
TORCH_OPENMMLAB ?= torch==2.4.1 torchvision==0.19.1 numpy==1.26.4

ifeq ($(FAMILY),openmmlab)
# An editable installation's C++ scan lies in the source tree, which has room for that of one PyTorch: this environment gets
# the source distribution instead.
override TORCH := $(TORCH_OPENMMLAB)
VENV := .venv-openmmlab
MM_PACKAGES := requirements/openmmlab.txt
PACK := rm -rf $(VENV)/sdist && $(VENV)/bin/python setup.py -q sdist --dist-dir $(VENV)/sdist
PACKAGE := --no-cache-dir $(VENV)/sdist/*.tar.gz
SOURCES := $(shell find mmlocalmamba -name '*.py' -o -name '*.json' -o -path '*/csrc/*') MANIFEST.in
else
VENV := .venv
MM_PACKAGES := requirements/mminstall.txt
PACK := true
PACKAGE := -e .
SOURCES := mmlocalmamba/version.py $(wildcard mmlocalmamba/ops/csrc/*)
endif
BIN := $(VENV)/bin
EMPTY :=
READY := $(VENV)/.ready-$(subst =,,$(subst $(EMPTY) ,-,$(TORCH)))

.PHONY: demo demo-seg demo-search test test-openmmlab smoke-openmmlab pytest setup lint clean

setup: $(READY)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mmlocalmamba needs Python 3.10 or newer: make PYTHON=python3.12")'
	@echo "==> 1/3 virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

# opencv-python and opencv-python-headless come as dependencies of the mm packages and overwrite each other's files. The
# headless one must come last: the other one needs libGL, which a bare machine does not have.
$(READY): setup.py $(wildcard requirements/*.txt) $(SOURCES) | $(VENV)/bin/python
	@rm -f $(VENV)/.ready*
	@echo "==> 2/3 PyTorch, MMDetection, MMSegmentation and what they need"
	$(BIN)/pip install -r requirements/build.txt -r requirements/runtime.txt -r $(MM_PACKAGES) -r requirements/tests.txt $(TORCH)
	$(BIN)/pip install --force-reinstall --no-deps $$(grep -h '^opencv-python-headless' $(MM_PACKAGES))
	@echo "==> 3/3 mmlocalmamba and its C++ scan, which takes a minute or two: see $(VENV)/build.log"
	@$(PACK)
	@$(BIN)/pip install -v --no-build-isolation --no-deps $(PACKAGE) > $(VENV)/build.log 2>&1 || (tail -n 40 $(VENV)/build.log; exit 1)
	@grep -A 1 'mmlocalmamba: the C++ scan' $(VENV)/build.log || true
	$(BIN)/python -m mmlocalmamba.compat enable
	$(BIN)/python tools/doctor.py
	@touch $@

# Such small tensors gain nothing from a second thread, and lose much where other work has the other core.
RUN := OMP_NUM_THREADS=1 $(BIN)/python
DEMO := configs/demo/mask_rcnn_localvmamba_micro_shapes.py
DEMO_DIR := work_dirs/demo

data/shapes/.complete: | $(READY)
	@echo "==> generating the demo data in data/shapes"
	$(BIN)/python tools/make_demo_data.py data/shapes
	@touch $@

demo: $(READY) data/shapes/.complete
	$(RUN) tools/train.py $(DEMO) --work-dir $(DEMO_DIR)
	$(RUN) tools/test.py $(DEMO) "$$(cat $(DEMO_DIR)/last_checkpoint)" --work-dir $(DEMO_DIR) --show-dir $(DEMO_DIR)/pictures
	@echo "==> pictures of the predictions: $(DEMO_DIR)/pictures"

SEG_DEMO := configs/demo/upernet_localvmamba_micro_shapes.py
SEG_DEMO_DIR := work_dirs/demo-seg

demo-seg: $(READY) data/shapes/.complete
	$(RUN) tools/train.py $(SEG_DEMO) --work-dir $(SEG_DEMO_DIR)
	$(RUN) tools/test.py $(SEG_DEMO) "$$(cat $(SEG_DEMO_DIR)/last_checkpoint)" --work-dir $(SEG_DEMO_DIR) --show-dir $(SEG_DEMO_DIR)/pictures
	@echo "==> pictures of the predictions: $(SEG_DEMO_DIR)/pictures"

SEARCH_DEMO_DIR := work_dirs/demo-search

demo-search: $(READY)
	$(BIN)/python tools/search/demo.py --work-dir $(SEARCH_DEMO_DIR)

test: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(MAKE) pytest

TESTS := tests

# From outside the source tree, so that `import mmlocalmamba` finds what is installed.
pytest: $(READY)
	cd $(VENV) && OMP_NUM_THREADS=1 bin/pytest -n 2 --durations=10 $(addprefix $(CURDIR)/,$(TESTS))

test-openmmlab:
	$(MAKE) FAMILY=openmmlab pytest

ONE_STEP := tests/test_configs/test_one_step.py::test_a_config_trains_and_is_evaluated
SMOKE_TESTS := tests/test_registry.py tests/test_compat tests/test_ops/test_cpu.py tests/test_models/test_weights/test_loading.py \
	tests/test_tools/test_train.py $(ONE_STEP)[mask_rcnn_localvmamba_t_1x.py] $(ONE_STEP)[upernet_localvim_t_160k_ade20k.py]

smoke-openmmlab:
	$(MAKE) FAMILY=openmmlab pytest TESTS="$(SMOKE_TESTS)"

lint: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf build dist *.egg-info data/shapes $(DEMO_DIR) $(SEG_DEMO_DIR) $(SEARCH_DEMO_DIR) .pytest_cache .mypy_cache .ruff_cache .hypothesis
