# make demo   set up, generate the demo data, train a small Mask R-CNN on it, evaluate it and draw its predictions
# make demo-seg  the same with UperNet on semantic masks
# make demo-search  search scan directions on generated textures, train what was found and a fixed model, draw both
# make test   set up, lint, check the types, run the tests and the examples in docstrings and pages
# make test-gpu  run the tests that take a GPU, with the Python and the packages that are there: torch, triton, pytest, and
#             timm and the mm packages for those that need them; PYTHON=... chooses another Python
# make fuzz   call every operation at random, validly and not, and compare with double precision; CALLS=100000 and SEED=0
# make sanitize   the same, for CALLS=10000, on a kernel library built with AddressSanitizer and UBSan
# make test-openmmlab   run the tests with the original OpenMMLab packages and an older PyTorch, in .venv-openmmlab
# make smoke-openmmlab  run a handful of them there
# make setup  only set up: everything goes into .venv; a second run skips what is up to date
# make wheel  build the wheel for this platform in build/wheel; an unchanged kernel library is not compiled again
# make lint   format and lint, fixing what can be fixed
# make clean  remove what the other targets made, except .venv, .venv-openmmlab and what their installations need
#
# PYTHON=python3.12 chooses the interpreter, TORCH="torch==2.9.1 torchvision==0.24.1" other versions, and TORCH_OPENMMLAB
# those in .venv-openmmlab ("torch==2.14.1 torchvision==0.29.1 numpy==2.2.6" works too). FAMILY=openmmlab makes any target
# there.

PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
TORCH_OPENMMLAB ?= torch==2.4.1 torchvision==0.19.1 numpy==1.26.4

CSRC := $(wildcard mmlocalmamba/ops/csrc/*.h mmlocalmamba/ops/csrc/*.cpp)
BUILD_FILES := setup.py pyproject.toml mmlocalmamba/version.py mmlocalmamba/ops/backends/cpu/fingerprint.py $(CSRC)
WHEEL := build/wheel/.ready

ifeq ($(FAMILY),openmmlab)
# The wheel serves every Python and every PyTorch. Testing it here tests what users install.
override TORCH := $(TORCH_OPENMMLAB)
VENV := .venv-openmmlab
MM_PACKAGES := requirements/openmmlab.txt
PACKAGE := --force-reinstall build/wheel/*.whl
PACKAGE_FILES := $(WHEEL)
else
VENV := .venv
MM_PACKAGES := requirements/mminstall.txt
PACKAGE := --editable .
PACKAGE_FILES := $(BUILD_FILES)
endif
BIN := $(VENV)/bin
EMPTY :=
VERSIONS := $(subst =,,$(subst $(EMPTY) ,-,$(TORCH)))
PACKAGES_READY := $(VENV)/.packages-$(VERSIONS)
READY := $(VENV)/.ready-$(VERSIONS)

.PHONY: demo demo-seg demo-search test test-openmmlab test-gpu smoke-openmmlab fuzz sanitize pytest doctest setup wheel lint clean

setup: $(READY)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mmlocalmamba needs Python 3.10 or newer: make PYTHON=python3.12")'
	@echo "==> 1/3 virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

# opencv-python and opencv-python-headless come as dependencies of the mm packages and overwrite each other's files. The
# headless one must come last: the other one needs libGL, which a bare machine does not have.
$(PACKAGES_READY): $(wildcard requirements/*.txt) | $(VENV)/bin/python
	@rm -f $(VENV)/.packages* $(VENV)/.ready*
	@echo "==> 2/3 PyTorch, MMDetection, MMSegmentation and what they need"
	$(BIN)/pip install -r requirements/runtime.txt -r $(MM_PACKAGES) -r requirements/tests.txt $(TORCH)
	$(BIN)/pip install --force-reinstall --no-deps $$(grep -h '^opencv-python-headless' $(MM_PACKAGES))
	@touch $@

# pip shows a build's notices only if it is asked to, among much else.
PIP_QUIETLY = pip() { $(BIN)/pip "$$@" > $(VENV)/build.log 2>&1 || { tail -n 40 $(VENV)/build.log; return 1; }; \
	grep -A 1 'mmlocalmamba: the C++ kernel library' $(VENV)/build.log || true; }; pip

$(READY): $(PACKAGES_READY) $(PACKAGE_FILES)
	@echo "==> 3/3 mmlocalmamba and its C++ kernel library: see $(VENV)/build.log"
	@$(PIP_QUIETLY) install -v --no-deps $(PACKAGE)
	$(BIN)/python -m mmlocalmamba.compat enable
	$(BIN)/python tools/doctor.py
	@touch $@

wheel: $(WHEEL)

# Folders are listed too: one that a file was deleted from is newer than the wheel.
$(WHEEL): $(BUILD_FILES) README.md model-index.yml $(shell find mmlocalmamba configs tools -name __pycache__ -prune -o \
		-name .mim -prune -o \( -type d -o -name '*.py' -o -name '*.sh' -o -name '*.json' -o -name '*.yml' \) -print) \
		| $(VENV)/bin/python
	@echo "==> the wheel, in build/wheel: see $(VENV)/build.log"
	@rm -rf build/wheel
	@$(PIP_QUIETLY) wheel -v --no-deps --wheel-dir build/wheel .
	@ls build/wheel
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
	$(BIN)/clang-format --dry-run --Werror $(CSRC)
	$(BIN)/mypy
	$(MAKE) pytest doctest

TESTS := tests

# From outside the source tree, so that `import mmlocalmamba` finds what is installed.
pytest: $(READY)
	cd $(VENV) && OMP_NUM_THREADS=1 bin/pytest -n 2 --durations=10 $(addprefix $(CURDIR)/,$(TESTS))

# Those of the installed package, and of the pages. mmcv_ext.py is no module of ours: it answers to any name, pytest's too.
doctest: $(READY)
	cd $(VENV) && package="$$(bin/python -c 'import mmlocalmamba; print(*mmlocalmamba.__path__)')" && OMP_NUM_THREADS=1 \
		bin/pytest --doctest-modules --doctest-glob='*.md' --ignore="$$package/compat/mmcv_ext.py" "$$package" \
		$(CURDIR)/docs $(CURDIR)/README.md

# On a machine that is lent for minutes nothing is set up: whatever Python finds is used, from the source tree.
test-gpu:
	PYTHONPATH=$(CURDIR) $(PYTHON) -m pytest -m gpu $(addprefix $(CURDIR)/,tests/test_directions tests/test_ops tests/test_models)

test-openmmlab:
	$(MAKE) FAMILY=openmmlab pytest

ONE_STEP := tests/test_configs/test_one_step.py::test_a_config_trains_and_is_evaluated
SMOKE_TESTS := tests/test_registry.py tests/test_compat tests/test_packaging.py tests/test_ops/test_cpu.py \
	tests/test_ops/test_library.py tests/test_models/test_weights/test_loading.py tests/test_tools/test_train.py \
	$(ONE_STEP)[mask_rcnn_localvmamba_t_1x.py] $(ONE_STEP)[upernet_localvim_t_160k_ade20k.py]

smoke-openmmlab:
	$(MAKE) FAMILY=openmmlab pytest TESTS="$(SMOKE_TESTS)"

SEED := 0
fuzz: CALLS := 100000
sanitize: CALLS := 10000

fuzz: $(READY)
	$(RUN) tools/reliability/fuzz_ops.py --calls $(CALLS) --seed $(SEED)

SANITIZE := -fsanitize=address,undefined
SANITIZED := build/sanitize/libmmlocalmamba_sanitized.so
SANITIZERS = $$(for name in asan ubsan stdc++; do g++ -print-file-name=lib$$name.so; done)

$(SANITIZED): $(BUILD_FILES) | $(READY)
	CXX=g++ CXXFLAGS="$(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1 -O1" LDFLAGS="$(SANITIZE)" \
		MMLOCALMAMBA_BUILD_EXT=1 $(BIN)/python setup.py -q build --build-base build/sanitize
	cp "$$(ls -t build/sanitize/csrc-*/libmmlocalmamba.so | head -n 1)" $@

# PyTorch takes and gives back memory in ways of its own, and its processes end with some of it in use.
sanitize: $(READY) $(SANITIZED)
	LD_PRELOAD="$$(echo $(SANITIZERS))" ASAN_OPTIONS=detect_leaks=0:alloc_dealloc_mismatch=0:allocator_may_return_null=1 \
		UBSAN_OPTIONS=print_stacktrace=1 $(RUN) tools/reliability/fuzz_ops.py --library $(SANITIZED) --calls $(CALLS) --seed $(SEED)

lint: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CSRC)

clean:
	rm -rf build dist *.egg-info data/shapes $(DEMO_DIR) $(SEG_DEMO_DIR) $(SEARCH_DEMO_DIR) .pytest_cache .mypy_cache .ruff_cache .hypothesis
