# `make study` runs the quickstart, `make serve` puts a model of it online, `make test` checks everything. Each sets up
# .venv first, once.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Data sets that do not travel with a package; tests that need them are skipped where it is absent.
export ASSAY_DATA ?= $(wildcard ../shared/data)
# Definitions of KubeRay's resources; the manifests are validated against them where they are present.
export ASSAY_CRDS ?= $(wildcard ../shared/k8s/crds)

.PHONY: study lint style types test test-all fast-tests all-tests serve dashboard evidence peers peers-serve lock wheelhouse sbom clean help

help:
	@echo "make study     run the quickstart study (three to six minutes on 2 cores) and print the path of its report"
	@echo "make serve     serve the model of that study that a rule chooses, on 127.0.0.1:8000; STUDY=results/mine names another study"
	@echo "make dashboard show all results live on 127.0.0.1:8050; RESULTS='results /shared/more' names other folders"
	@echo "make test      lint, types and the fast tests (16 minutes on 2 cores; the aim is five)"
	@echo "make test-all  the same with the slow tests"
	@echo "make evidence  the longer evidence: the whole study, those of robustness, poisoning, privacy, interaction and explanations, and the benchmarks (about four hours)"
	@echo "make peers     environments of their own for peers whose pins clash with ours (14 GB); for python -m jobs.benchmark certified-claim, federated-round, explain-truth, explain-measures, explain-shapley and explain-audit"
	@echo "make peers-serve  only those of the clients tritonclient and kserve, which tests of serving run"
	@echo "make lock      lock what the image of k8s/ installs, in the versions of .venv; make wheelhouse downloads it (4 GB), make sbom lists it"
	@echo "make clean     remove .venv and caches; results stay"

study: $(STAMP)
	$(BIN)/python -m jobs.study quickstart

# What is served: the model of this study that a rule chooses on validation records, and what jobs.serve load has added.
STUDY ?= results/quickstart
SERVING ?= serving
serve: $(STAMP)
	$(BIN)/python -m jobs.serve start --repository $(SERVING) --results $(STUDY)

# Folders of results that the dashboard shows.
RESULTS ?= results
dashboard: $(STAMP)
	@mkdir -p $(filter results,$(RESULTS))
	$(BIN)/python -m jobs.dashboard $(foreach folder,$(RESULTS),--results $(folder))

lint: style types

style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Tests and types at once: mypy keeps one processor busy, and tests with Ray often wait.
test: $(STAMP)
	@$(MAKE) --no-print-directory --keep-going --jobs 3 style types fast-tests

test-all: $(STAMP)
	@$(MAKE) --no-print-directory --keep-going --jobs 3 style types all-tests

# Modules are compiled once, and not by each process that tests start.
fast-tests all-tests: export PYTHONDONTWRITEBYTECODE =

fast-tests: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow"

all-tests: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2

evidence: $(STAMP)
	@echo "the whole study (700 trials: 5 folds x 5 repeats of every recipe on both data sets), those of robustness, poisoning, privacy, interaction and explanations, and the benchmarks: about four hours on 2 cores"
	$(BIN)/python -m jobs.study paper
	$(BIN)/python -m jobs.benchmark study
	$(BIN)/python -m jobs.benchmark executor
	$(BIN)/python -m jobs.benchmark streaming
	$(BIN)/python -m jobs.benchmark accuracy
	$(BIN)/python -m jobs.study robustness --set preset=laptop
	$(BIN)/python -m jobs.study poisoning --set preset=laptop
	$(BIN)/python -m jobs.benchmark attack-curve
	$(BIN)/python -m jobs.benchmark autoattack
	$(BIN)/python -m jobs.benchmark sharded
	$(BIN)/python -m jobs.benchmark adversarial-training
	$(BIN)/python -m jobs.benchmark certified-training
	$(MAKE) peers && $(BIN)/python -m jobs.benchmark certified-claim
	$(BIN)/python -m jobs.benchmark federated-round
	$(BIN)/python -m jobs.benchmark federated-compression
	$(BIN)/python -m jobs.benchmark federated-conformance
	$(BIN)/python -m jobs.study privacy
	$(BIN)/python -m jobs.study interaction --set preset=laptop
	$(BIN)/python -m jobs.study explanations --set preset=laptop
	$(BIN)/python -m jobs.benchmark dp-step
	$(BIN)/python -m jobs.benchmark lira
	$(BIN)/python -m jobs.benchmark explain
	$(BIN)/python -m jobs.benchmark explain-shapley
	$(BIN)/python -m jobs.benchmark explain-rulers
	$(BIN)/python -m jobs.benchmark explain-methods
	$(BIN)/python -m jobs.benchmark explain-truth
	$(BIN)/python -m jobs.benchmark explain-honest
	$(BIN)/python -m jobs.benchmark explain-measures
	$(BIN)/python -m jobs.benchmark explain-audit
	$(BIN)/python -m jobs.benchmark dashboard
	$(BIN)/python -m jobs.benchmark index
	$(BIN)/python -m jobs.benchmark serve
	$(BIN)/python -m jobs.benchmark sweep
	$(BIN)/python -m jobs.benchmark scale
	$(BIN)/python -m jobs.benchmark scale-model
	$(BIN)/python -m jobs.benchmark all-reduce
	$(BIN)/python -m jobs.benchmark compile
	$(BIN)/python -m jobs.benchmark serve-attacks

# Reinstalls when pyproject.toml has changed, and only then.
$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Assay needs Python 3.11: install it, or say make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar on --editable '.[dev]'
	@# torchattacks pins an old requests that flwr cannot live with, and imports none of what it declares.
	$(BIN)/python -m pip install --no-deps torchattacks==3.5.1
	@# It renders the manifests of k8s/ for their tests, which are skipped without it.
	-$(BIN)/python tests/k8s/install_kubectl.py
	touch $(STAMP)

# Peers whose pins clash with ours, and with each other: the first environment is of the benchmark certified-claim, the
# second of federated-round, the third of those of explanations.
PEERS := .venv-peers
FEDERATED_PEERS := .venv-peers-federated
EXPLAIN_PEERS := .venv-peers-explain
# Clients of the Open Inference Protocol, which tests/serve/test_clients.py runs against a served model.
TRITON_CLIENT := .venv-peers-triton
KSERVE_CLIENT := .venv-peers-kserve
peers: $(PEERS)/.installed $(FEDERATED_PEERS)/.installed $(EXPLAIN_PEERS)/.installed peers-serve
peers-serve: $(TRITON_CLIENT)/.installed $(KSERVE_CLIENT)/.installed
$(TRITON_CLIENT)/.installed:
	test -x $(TRITON_CLIENT)/bin/python || $(PYTHON) -m venv $(TRITON_CLIENT)
	$(TRITON_CLIENT)/bin/python -m pip install 'tritonclient[http,grpc]==2.73.0'
	touch $@
$(KSERVE_CLIENT)/.installed:
	test -x $(KSERVE_CLIENT)/bin/python || $(PYTHON) -m venv $(KSERVE_CLIENT)
	$(KSERVE_CLIENT)/bin/python -m pip install 'kserve==0.21.0'
	touch $@
$(PEERS)/.installed:
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install torch==1.13.1 numpy==1.26.4 packaging appdirs pyyaml tqdm
	@# Its pins name releases of PyTorch that have no wheel for Python 3.11.
	$(PEERS)/bin/python -m pip install --no-deps auto_LiRPA==0.3
	touch $@
$(FEDERATED_PEERS)/.installed:
	test -x $(FEDERATED_PEERS)/bin/python || $(PYTHON) -m venv $(FEDERATED_PEERS)
	@# Flower as Assay has it, but with the Ray that its own engine pins. pfl imports dill and does not say so.
	$(FEDERATED_PEERS)/bin/python -m pip install 'torch>=2.14.1' 'numpy>=2.3.0' 'pfl==0.6.0' dill 'flwr[simulation]>=1.41.0,<1.42'
	touch $@
$(EXPLAIN_PEERS)/.installed:
	test -x $(EXPLAIN_PEERS)/bin/python || $(PYTHON) -m venv $(EXPLAIN_PEERS)
	@# Quantus calls numpy.trapz, which NumPy 2.4 no longer has. shapiq 1.5 needs Python 3.12.
	$(EXPLAIN_PEERS)/bin/python -m pip install 'torch>=2.14.1' 'numpy>=2.3,<2.4' 'quantus==0.6.0' 'lime==0.2.0.1' 'captum==0.9.0' 'shapiq>=1.4,<1.5'
	touch $@

# What the image of k8s/ holds: versions and hashes, the wheels for a site without the internet, and a list of all.
lock: $(STAMP)
	k8s/lock.sh

wheelhouse: $(STAMP)
	k8s/wheelhouse.sh wheelhouse

sbom: $(STAMP)
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements k8s/requirements.lock --pyproject pyproject.toml --output-reproducible --output-file dist/assay.cdx.json

clean:
	rm -rf $(VENV) $(PEERS) $(FEDERATED_PEERS) $(EXPLAIN_PEERS) $(TRITON_CLIENT) $(KSERVE_CLIENT) .mypy_cache .pytest_cache .ruff_cache
