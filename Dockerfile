# Corral in a container. Two targets, the CPU build of vLLM and the CUDA build:
#
#   docker build --target cpu  -t corral:cpu .
#   docker build --target cuda -t corral:cuda .
#   docker run -p 8000:8000 -e CORRAL_API_KEY=... -v corral-models:/var/cache/corral corral:cpu
#   docker run --gpus all ...                                                        corral:cuda
#
# The image listens on all addresses, which the server refuses without a key: a container that is
# started without CORRAL_API_KEY ends at once and says so. Models are kept in the volume; mount your
# own registry over /etc/corral/model_registry.yaml.
#
# scripts/dockerfile_steps.py prints a target's steps as a shell script, to try them without Docker.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

# --- where packages are installed; nothing here but the finished /opt/corral goes on ----------------
FROM base AS build
WORKDIR /src
COPY requirements requirements
COPY scripts/install.py scripts/pip_run.py scripts/numa_stub.py scripts/

FROM build AS web
COPY scripts/build_web.py scripts/
COPY clients/web clients/web
RUN mkdir -p server/web && python3 -m scripts.build_web --required

FROM build AS build-cpu
RUN python3 -m scripts.install --build cpu --venv /opt/corral --no-project
COPY pyproject.toml setup.py model_registry.yaml ./
COPY adapters adapters
COPY recipes recipes
COPY training training
COPY server server
COPY evaluation evaluation
COPY --from=web /src/server/web/static /src/server/web/static
RUN /opt/corral/bin/python -m pip install --no-deps --no-build-isolation .

FROM build AS build-cuda
RUN python3 -m scripts.install --build gpu --venv /opt/corral --no-project
COPY pyproject.toml setup.py model_registry.yaml ./
COPY adapters adapters
COPY recipes recipes
COPY training training
COPY server server
COPY evaluation evaluation
COPY --from=web /src/server/web/static /src/server/web/static
RUN /opt/corral/bin/python -m pip install --no-deps --no-build-isolation .

# --- what runs --------------------------------------------------------------------------------------
FROM base AS runtime
# vLLM's CPU kernels are linked with libnuma; its version is the base image's
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --create-home corral \
    && install -d -o corral -g corral /var/cache/corral
ENV PATH=/opt/corral/bin:$PATH \
    CORRAL_REGISTRY=/etc/corral/model_registry.yaml \
    CORRAL_CACHE_DIR=/var/cache/corral \
    XDG_CACHE_HOME=/var/cache/corral/xdg
COPY model_registry.yaml /etc/corral/model_registry.yaml
COPY adapters /etc/corral/adapters
COPY scripts/healthcheck.py /usr/local/lib/corral/healthcheck.py
VOLUME /var/cache/corral
EXPOSE 8000
WORKDIR /home/corral
# Loading a model at start takes a while; /health answers meanwhile.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "/usr/local/lib/corral/healthcheck.py"]
ENTRYPOINT ["corral"]
CMD ["serve", "--host", "0.0.0.0"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/corral /opt/corral
USER 10001

FROM runtime AS cpu
COPY --from=build-cpu /opt/corral /opt/corral
USER 10001
