# Everything on a fresh machine: `make demo`, `make test`.
# PYTHON picks the interpreter, for example `make setup PYTHON=python3.12`.
PYTHON ?= python3
VENV := .venv
VENV_OPENMMLAB := .venv-openmmlab
VENV_LIBRARIES := .venv-libraries
PYTEST_ARGS ?= -n auto --dist worksteal

.PHONY: setup demo test test-openmmlab test-libraries test-cuda soak lint format clean

setup: $(VENV)/.ready

# One environment for each host line, and one for libraries of models; a second run reuses it as long as the
# requirements are the same. The hosts ask for the desktop OpenCV, which needs
# libGL: only the headless one is left. What the doctor finds is shown, but
# does not end the set-up.
$(VENV)/.ready: LINE = onedl
$(VENV_OPENMMLAB)/.ready: LINE = openmmlab
$(VENV_LIBRARIES)/.ready: LINE = onedl,libraries
%/.ready: pyproject.toml constraints.txt setup.py
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --upgrade pip
	$*/bin/python -m pip install --progress-bar off --quiet -c constraints.txt -e '.[$(LINE),coco,log,predict,export,dev]'
	$*/bin/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless
	$*/bin/python -m pip install --quiet --no-deps -c constraints.txt opencv-python-headless
	-$*/bin/python -m halvit_mm.doctor
	touch $@

demo: $(VENV)/.ready
	$(VENV)/bin/python tools/demo.py

# A process per core, one thread in each: two would wait for each other.
test test-openmmlab test-libraries soak: export OMP_NUM_THREADS = 1

test: $(VENV)/.ready
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-openmmlab: $(VENV_OPENMMLAB)/.ready
	$(VENV_OPENMMLAB)/bin/python -m pytest $(PYTEST_ARGS)

# Weights of timm and transformers compute here what they compute there. With
# HALVIT_MM_REAL_VIT=FILE, of a Dinov2Model's weights, that file as well.
test-libraries: $(VENV_LIBRARIES)/.ready
	$(VENV_LIBRARIES)/bin/python -m pytest tests/checkpoint/test_libraries.py

# A proof that needs namespaces of its own, which containers may forbid.
define unshared
if unshare $(1) true; then unshare $(1) $(VENV)/bin/python -m tests.soak.$(2); \
else echo '$(2) is skipped: `unshare $(1)` is not permitted here'; fi
endef

# Long proofs; their results are kept in docs/soak.
soak: $(VENV)/.ready
	$(VENV)/bin/python -m tests.soak.kills
	$(VENV)/bin/python -m tests.soak.signals
	$(call unshared,-rm,full_disk)
	$(call unshared,-rm,hangs)
	$(call unshared,-rn,two_hosts)
	$(VENV)/bin/python -m tests.soak.broken_numbers
	$(VENV)/bin/python -m tests.soak.hooks
	$(VENV)/bin/python -m tests.soak.memory
	$(VENV)/bin/python -m tests.soak.hostile
	$(VENV)/bin/python -m tests.soak.damage
	$(VENV)/bin/python -m pip install --quiet '.[fuzz]'
	$(VENV)/bin/python -m tests.soak.fuzz

# On a machine with a GPU and the CUDA toolkit: builds the operators in place,
# proves them and times them; then the other tests that need a GPU.
test-cuda: $(VENV)/.ready
	$(VENV)/bin/python tools/analysis_tools/gpu_proof.py
	HALVIT_MM_OPS=cuda $(VENV)/bin/python -m pytest -m cuda --ignore=tests/ops

lint: $(VENV)/.ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.ready
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(VENV_OPENMMLAB) $(VENV_LIBRARIES) work_dirs data/shapes
