# make demo   builds the environment and runs the default experiment (results/mini)
# make facts  builds the environment and shows what can be known of the paper without data (results/facts)
# make test   builds the environment and runs the tests
# make fuzz   damages input of every kind at random for MINUTES=60; what it finds is kept in fuzz/
# make mutants    breaks N=20 places of each module in data, experiments and evaluation and shows what tests let pass; hours
# make lint   checks style, as CI does
# make rehearsal  runs config/paper.yaml on a miniature of the published releases, and kills it on the way
# make docs       builds the documentation as a site, into site/
# make slurm      runs the workflow through a Slurm of one node (root; apt-get install slurm-wlm munge)

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: facts demo test fuzz mutants lint docs rehearsal slurm
facts: $(VENV)/installed
	@python -m spaarsist facts

demo: $(VENV)/installed
	@echo "The demo: some 13 minutes on two recent cores, 40 on old ones; stop it whenever you like, the same command goes on"
	@snakemake --cores all --profile workflow/profiles/default

test: $(VENV)/installed
	python -m pytest -n 2 --dist loadfile

fuzz: $(VENV)/installed
	FUZZ_MINUTES=$(or $(MINUTES),60) python -m pytest tests/test_fuzz.py

mutants: $(VENV)/installed
	python tests/mutants.py $(or $(N),20) $(MODULES)

rehearsal slurm: $(VENV)/installed
	python -m pytest tests/$@

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	snakefmt --check .
	snakemake --lint

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict

# uv takes half a minute where pip takes three; pip steps in where uv is not to be had
$(VENV)/installed: pyproject.toml
	@echo "Making $(VENV): Python packages of about 5 GB, mostly PyTorch's CUDA libraries"
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	command -v uv >/dev/null || python -m pip install --quiet uv==0.13.9 || true
	uv pip install --python $(VENV)/bin/python --compile-bytecode --quiet --editable '.[dev]' || python -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	uv pip install --python $(VENV)/bin/python --quiet --editable '.[docs]' || python -m pip install --quiet --editable '.[docs]'
	touch $@
