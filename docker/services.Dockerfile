# What geoml works with, for docker/compose.yaml: PostgreSQL with PostGIS, pgstac and its STAC API, SeaweedFS, Prefect's
# server. One image on the same BASE as geoml's, so that a stack needs no other. BASE and secrets: see cpu.Dockerfile.
ARG BASE=python:3.11-slim
FROM ${BASE}

RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql-common >/dev/null \
    && sed -i "s/^#*create_main_cluster.*/create_main_cluster = false/" /etc/postgresql-common/createcluster.conf \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql-postgis >/dev/null \
    && rm -rf /var/lib/apt/lists/* && install -d -o postgres -g postgres /data
ENV PATH=/opt/geoml/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false

WORKDIR /app
COPY pyproject.toml requirements.txt docker/install.sh ./
RUN --mount=type=secret,id=ca,target=/run/build/ca --mount=type=secret,id=index,target=/run/build/index \
    sh install.sh --group services && rm install.sh
COPY catalogs catalogs
COPY docker/*.py docker/postgres.sh docker/

USER postgres
VOLUME ["/data"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s CMD ["python", "/app/docker/health.py"]
CMD ["sh", "/app/docker/postgres.sh"]
