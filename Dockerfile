# vidpref with the versions of constraints.txt; torch's wheels bring CUDA along, so the host needs NVIDIA's driver and its
# container toolkit alone. See docs/running.md.
#
#   docker build --tag vidpref .
#   docker run --rm --gpus all --ipc host --volume "$PWD/data:/vidpref/data" --volume "$PWD/runs:/vidpref/runs" \
#       --volume "$HOME/.cache/huggingface:/cache" vidpref fit --config configs/vista_dpo/video_llava_lora.yaml
FROM python:3.11-slim

# gcc and the headers: `compile: blocks` builds kernels at run time. git: a run's record names the commit. make: the tests.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev make \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HF_HOME=/cache
WORKDIR /vidpref

# The packages first: they are built again only when their list changes, and not with every change of the code.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], *(name for extra in ("wandb", "s3", "parquet") \
for name in project["optional-dependencies"][extra]), sep="\n")' > /tmp/requirements.txt \
    && python -m pip install --constraint constraints.txt --requirement /tmp/requirements.txt \
    && rm /tmp/requirements.txt

# Any user may write the three: --user "$(id -u)" gives what is written there to whoever runs the container.
RUN git config --system --add safe.directory /vidpref \
    && useradd --create-home --uid 1000 vidpref \
    && mkdir --mode 1777 data runs /cache \
    && chown vidpref /vidpref
COPY --chown=vidpref . .
# In place: the recipes in configs/ are read from the current folder.
RUN python -m pip install --constraint constraints.txt --no-deps --editable .

USER vidpref
ENTRYPOINT ["vidpref"]
CMD ["--help"]
