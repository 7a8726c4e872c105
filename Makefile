# Contrastive-DP. `make` sets up .venv and runs the demo; `make help` lists the rest.
# Options: PYTHON=python3.12 (what .venv is made from), CORES=4, ARGS="..." (more for snakemake
# or pytest). pip's own settings hold, but for where it installs:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make
# spares a Linux machine without a GPU the CUDA packages that torch brings.

PYTHON ?= python3
CORES = all
SCALE = demo
GPUS =
ARGS =

# By `-m` rather than by .venv/bin/<name>: works in a long path and after a move, too.
venv := .venv/bin/python
stamp := .venv/.installed

ifneq ($(words $(CURDIR)),1)
$(error Snakemake cannot run scripts where the path has a space ("$(CURDIR)"): move the folder)
endif
ifneq ($(findstring {,$(CURDIR))$(findstring },$(CURDIR)),)
$(error Snakemake takes a brace in the path for a wildcard ("$(CURDIR)"): move the folder)
endif

# Of the caller's settings, those that would send .venv's packages elsewhere.
export PIP_USER = 0
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_DRY_RUN PYTHONHOME

# Snakemake, matplotlib and others keep a cache in the home folder. Where that cannot be written, in
# .snakemake.
cache = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
ifneq ($(shell mkdir -p "$(cache)" 2>/dev/null && test -w "$(cache)" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif

.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:
.PHONY: demo setup test slurm-test lint format bench lock unlock plan show settings why_failed help

demo: setup  ## environment, then the whole demo: tables, figures, report (the default)
	@$(venv) scripts/check_command.py $(ARGS)
	@$(venv) -m snakemake --cores $(CORES) $(ARGS)

setup: $(stamp)  ## only the environment in .venv

# The stamp is written last, so an installation that stopped halfway is taken up again. An existing
# .venv is kept if its Python will do.
new_enough := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
$(stamp): requirements.txt
	@$(venv) $(new_enough) 2>/dev/null || { \
	  $(PYTHON) $(new_enough) 2>/dev/null || { \
	    echo 'make: needs Python 3.11 or newer, "$(PYTHON)" is not; name one: make PYTHON=python3.12' >&2; \
	    exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo 'make: "$(PYTHON)" has no venv module (Debian, Ubuntu: apt install python3-venv)' >&2; \
	    exit 1; }; \
	  $(PYTHON) -m venv --clear .venv; }
	@$(venv) -m pip --version >/dev/null 2>&1 || $(venv) -m ensurepip >/dev/null
	@echo 'make: installing requirements.txt into .venv (once, some minutes)'
	@$(venv) -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

# A worker has one thread; four hold some GB. ARGS=-n0: no workers, for one file or a debugger.
test: setup  ## the tests, a file a processor (ARGS="-n0 tests/unit/test_job.py": one file)
	@$(venv) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# Skipped, and the reason printed, where SLURM's programs are missing (docs/cluster.md).
slurm-test: setup  ## the smoke scale on a real SLURM of two nodes, some minutes (Linux)
	@$(venv) -m pytest -rs tests/slurm $(ARGS)

lint: setup  ## style of Python, rules and workflow, types, who imports whom
	@$(venv) -m ruff check .
	@$(venv) -m ruff format --check .
	@$(venv) -m mypy
	@PYTHONPATH=scripts $(venv) -c \
	  'import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_logo=True))'
	@$(venv) -m snakefmt --check Snakefile rules
	@$(venv) -m snakemake --lint

format: setup  ## rewrite Python and rules in the house's style
	@$(venv) -m ruff check --fix .
	@$(venv) -m ruff format .
	@$(venv) -m snakefmt Snakefile rules

bench: setup  ## times of the costly steps on this machine (asserts nothing)
	@$(venv) -m pytest -s -o python_files='bench_*.py' -o python_functions='bench_*' tests/benchmarks $(ARGS)

lock: setup  ## write requirements.txt anew from pyproject.toml (ARGS=--upgrade for newer versions)
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(venv) -m uv pip compile pyproject.toml \
	  --all-extras --quiet -o requirements.txt $(ARGS)

unlock: setup  ## after a run that was killed, with no other left: let the next one start
	@$(venv) -m snakemake --unlock $(ARGS)

plan: setup  ## what a run will cost (SCALE=paper GPUS=8; ARGS="--measure FILE" measures this machine)
	@$(venv) scripts/plan_run.py --scale $(SCALE) $(if $(GPUS),--gpus $(GPUS)) $(ARGS)

show: setup  ## each setting of ARM=... or GENERATOR=... and where it comes from (SCALE=paper)
	@$(venv) scripts/show_settings.py $(if $(ARM),--arm $(ARM)) $(if $(GENERATOR),--generator $(GENERATOR)) \
	  --scale $(SCALE) $(ARGS)

settings: setup  ## write docs/settings.md anew from config/schema.yaml
	@$(venv) scripts/show_settings.py --page docs/settings.md

why_failed:  ## each failed job of the last run: its log, and the command that runs it alone
	@$(PYTHON) scripts/why_failed.py $(ARGS)

help:  ## this list
	@sed -n 's/^\([a-z_-]*\):[^#]*## /\1	/p' Makefile | expand -t 12
