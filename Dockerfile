# The workflow with all that it needs: after the build, `make` and every scale on digits run without
# a network. docs/cluster.md has the commands. For a GPU, build with
#   --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 --build-arg PIP_EXTRA_INDEX_URL=
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# git: results record the commit. What the base has already is not installed again.
RUN apt-get update \
    && packages="git make" \
    && { python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"; } \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 10001 contrastdp \
    && mkdir /contrastdp \
    && chown contrastdp:contrastdp /contrastdp
USER contrastdp
WORKDIR /contrastdp

# torch without CUDA for the default base; empty takes the CUDA build that PyPI holds.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY --chown=contrastdp:contrastdp Makefile requirements.txt ./
RUN PIP_EXTRA_INDEX_URL="${PIP_EXTRA_INDEX_URL}" PIP_NO_CACHE_DIR=1 make setup

COPY --chown=contrastdp:contrastdp . .
# Newer than what was just copied, so that `make` has nothing to install.
RUN touch .venv/.installed

ENV HF_HUB_OFFLINE=1
VOLUME /contrastdp/results
CMD ["make"]
