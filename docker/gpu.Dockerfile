# geoml on NVIDIA GPUs:  docker build -f docker/gpu.Dockerfile -t geoml:gpu .
# The builds of torch in the package index bring CUDA along: a plain base will do, and the host needs its driver and
# the NVIDIA container toolkit (docker run --gpus all). BASE and the secrets are those of cpu.Dockerfile.
ARG BASE=python:3.11-slim
FROM ${BASE}

RUN useradd --create-home --uid 10001 geoml && install -d -o geoml -g geoml /data /out
ENV PATH=/opt/geoml/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# the packages: a layer that only a new requirements.txt makes again
WORKDIR /app
COPY pyproject.toml requirements.txt docker/install.sh ./
RUN --mount=type=secret,id=ca,target=/run/build/ca --mount=type=secret,id=index,target=/run/build/index \
    sh install.sh pyproject.toml --extra dask --extra prefect --extra train --group tools && rm install.sh

# geoml itself: a few megabytes, and no network
COPY README.md LICENSE ./
COPY catalogs catalogs
COPY flows flows
COPY geoml geoml
COPY docker/*.py docker/
RUN pip install --quiet --no-deps --no-build-isolation --no-cache-dir --disable-pip-version-check -e . \
    && python -m compileall -q geoml flows

USER geoml
VOLUME ["/data", "/out"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s CMD ["python", "/app/docker/health.py"]
CMD ["geoml", "--help"]
