# geoml on a machine without a GPU:  docker build -f docker/cpu.Dockerfile -t geoml:cpu .
# BASE: any Debian or Ubuntu with Python 3.11 or later, venv and CA certificates; make pin-base adds the digest.
# TORCH_BACKEND=cpu: torch's own CPU builds; empty: those of the package index, which link CUDA.
ARG BASE=python:3.11-slim
FROM ${BASE}

RUN useradd --create-home --uid 10001 geoml && install -d -o geoml -g geoml /data /out
ENV PATH=/opt/geoml/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false

# the packages: a layer that only a new requirements.txt makes again
WORKDIR /app
COPY pyproject.toml requirements.txt docker/install.sh ./
ARG TORCH_BACKEND=""
RUN --mount=type=secret,id=ca,target=/run/build/ca --mount=type=secret,id=index,target=/run/build/index \
    DEVICE=cpu sh install.sh pyproject.toml --extra dask --extra prefect --extra train --group tools && rm install.sh

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
