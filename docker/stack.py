"""The services that geoml works with, on this machine: for the tests, for ``make stack-local`` and for the containers.

python docker/stack.py up [--dir DIR]               everything from packages, until Ctrl-C
python docker/stack.py migrate | load | deploy      one step against services that run, by their usual variables
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import requests
import yaml
from obstore.store import S3Store
from stack_process import Service, StackError, write_private
from stack_services import (
    ROOT,
    S3,
    DaskCluster,
    Nginx,
    Postgres,
    Prefect,
    StacApi,
    Worker,
    bucket_store,
    create_database,
    pgstac_load,
    pgstac_migrate,
    prefect_command,
)

__all__ = ["S3", "DaskCluster", "Nginx", "Postgres", "Prefect", "Service", "StacApi", "Stack", "StackError", "Worker"]

DEMO = ROOT / "catalogs" / "demo"
POOL = "geoml"


class Stack:
    """All services of the local stack in one folder. ``env`` is what a process needs to work with them."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self.folder, self.say = folder, say
        self.postgres = Postgres(folder / "postgres")
        self.stac = StacApi(folder / "stac", self.postgres)
        self.s3 = S3(folder / "s3")
        self.prefect = Prefect(folder / "prefect", self.postgres)
        shared = {
            **self.s3.env,
            "GEOML_PRIVATE_HOSTS": "true",  # all of it is on loopback
            "GEOML_CATALOGS": str(folder / "catalogs"),
            "GEOML_SCRATCH": str(folder / "scratch"),
        }
        self.dask = DaskCluster(folder / "dask", env=shared)
        self.env = {**shared, "GEOML_WORKERS": self.dask.address, **self.prefect.env}
        self.worker = Worker(folder / "worker", self.prefect, self.env, POOL)

    @property
    def services(self) -> list[Service]:
        """In the order of starting."""
        return [self.postgres, self.s3, self.prefect, self.stac, self.dask, self.worker]

    def start(self) -> None:
        """Start everything, load the demo catalog and deploy the flows. Raises StackError; ``stop`` in any case."""
        missing = [why for s in self.services if (why := s.available())]
        if missing:
            raise StackError("cannot start here:\n  " + "\n  ".join(dict.fromkeys(missing)))
        (self.folder / "scratch").mkdir(mode=0o700, exist_ok=True)
        write_catalogs(self.folder / "catalogs", self.stac.url, "geoml")
        self._timed(self.postgres)
        for service in (self.s3, self.prefect, self.stac, self.dask):  # Prefect takes longest, so it starts early
            service.launch()
        for service in (self.s3, self.stac, self.dask):
            self._timed(service, launched=True)
        load_demo(self.s3.store, self.s3.bucket, self.stac.load)
        self._timed(self.prefect, launched=True)
        self._timed(self.worker)
        deploy(self.env)

    def stop(self) -> None:
        for service in reversed(self.services):
            service.stop()

    def check_alive(self) -> None:
        """Raises StackError when a service has ended by itself."""
        for service in self.services:
            if gone := [p.returncode for p in service.processes if p.poll() is not None]:
                raise StackError(f"{service.name}: ended with code {gone[0]}; its log ends with\n{service.tail()}")

    def _timed(self, service: Service, launched: bool = False) -> None:
        started = time.monotonic()
        service.wait() if launched else service.start()
        self.say(f"{service.name}: up ({time.monotonic() - started:.1f} s)")

    def addresses(self) -> dict[str, str]:
        return {
            "STAC API": self.stac.url,
            "S3": f"{self.s3.url}, bucket {self.s3.bucket}",
            "Prefect": self.prefect.url.removesuffix("/api"),
            "Dask": f"{self.dask.address}, {self.dask.url}",
            "PostgreSQL": f"127.0.0.1:{self.postgres.port}",
        }


def write_catalogs(folder: Path, url: str, bucket: str) -> None:
    """A folder of catalogs: those of the repository, and ``stack``: the demo at the STAC API, COGs in ``bucket``."""
    folder.mkdir(exist_ok=True)
    for path in (ROOT / "catalogs").iterdir():
        if not (folder / path.name).is_symlink():
            (folder / path.name).symlink_to(path)
    demo = yaml.safe_load((ROOT / "catalogs" / "demo.yaml").read_text("utf-8"))
    title = "The STAC API of the local stack, with the demo catalog"
    ours = {"title": title, "url": url, "kind": "api", "signed_buckets": [f"s3://{bucket}"]}
    (folder / "stack.yaml").write_text(yaml.safe_dump({**demo, **ours}), "utf-8")


def load_demo(store: S3Store, bucket: str, load: Callable[[dict[str, Any], list[dict[str, Any]]], None]) -> None:
    """Put the demo's COGs into the bucket, and its items, with hrefs into the bucket, where ``load`` brings them."""
    items = []
    for path in sorted(DEMO.glob("*/item.json")):
        item = json.loads(path.read_text("utf-8"))
        for asset in item["assets"].values():
            key = f"demo/{item['id']}/{Path(asset['href']).name}"
            store.put(key, path.parent / asset["href"])
            asset["href"] = f"s3://{bucket}/{key}"
        items.append(item)
    load(json.loads((DEMO / "collection.json").read_text("utf-8")), items)


def deploy(env: Mapping[str, str]) -> None:
    """Deploy the flows of ``flows/prefect.yaml`` to the process pool, which is made where there is none."""
    pool = {"name": POOL, "type": "process"}
    answer = requests.post(f"{env['PREFECT_API_URL']}/work_pools/", json=pool, timeout=30)
    if not answer.ok and answer.status_code != 409:  # it is there already
        raise StackError(f"Prefect: no work pool {POOL} ({answer.status_code}): {answer.text[:500]}")
    prefect_command(env, "deploy", "--all", "--prefect-file", "flows/prefect.yaml")


def up(folder: Path | None) -> None:
    """Start the stack, say where it is, and stay until SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    own = folder is None
    base = Path(tempfile.mkdtemp(prefix="geoml-stack-")) if folder is None else folder.resolve()
    if own:
        base.chmod(0o755)  # PostgreSQL runs as another user
    try:
        base.mkdir(parents=True, exist_ok=True)
        stack = Stack(base, lambda line: print(line, flush=True))
        try:
            stack.start()
            lines = {k: f"export {k}={shlex.quote(v)}" for k, v in stack.env.items()}
            write_private(base / "env.sh", "\n".join(lines.values()) + "\n")
            width = max(map(len, stack.addresses()))
            print("\n" + "\n".join(f"{k:{width}}  {v}" for k, v in stack.addresses().items()))
            print(f"\nIn another terminal:  . {base / 'env.sh'}   # only you can read it; it has the keys, and")
            print("\n".join(line for name, line in lines.items() if not re.search("SECRET|PASSWORD", name)))
            print(f"\nThe password of PostgreSQL is in {base / 'postgres' / 'password'}. Ctrl-C ends it.", flush=True)
            while True:
                stack.check_alive()
                time.sleep(1)
        except KeyboardInterrupt:
            print("stopping", flush=True)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # stopping takes seconds and is not interrupted
            stack.stop()
    finally:
        if own:
            shutil.rmtree(base, ignore_errors=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="docker/stack.py", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    words = commands.add_parser("up", help="start everything from packages; Ctrl-C ends it")
    words.add_argument("--dir", type=Path, help="folder for data and logs, kept; a temporary one without it")
    commands.add_parser("migrate", help="databases of pgstac and Prefect in the server of the PG… variables")
    commands.add_parser("load", help="the demo's COGs to S3 (AWS_…, BUCKET), its items to pgstac (PG…)")
    commands.add_parser("deploy", help="deploy the flows to PREFECT_API_URL, into GEOML_CATALOGS the catalog STAC_URL")
    given = parser.parse_args(argv)
    env = os.environ
    try:
        if given.command == "up":
            up(given.dir)
        elif given.command == "migrate":
            for name in (env["PGDATABASE"], "prefect"):
                create_database(env, name)
            pgstac_migrate(env)
        elif given.command == "load":
            load_demo(bucket_store(env["BUCKET"], env), env["BUCKET"], lambda c, i: pgstac_load(env, c, i))
        else:
            folder = Path(env["GEOML_CATALOGS"])
            folder.mkdir(parents=True, exist_ok=True)
            write_catalogs(folder, env["STAC_URL"], env["BUCKET"])
            deploy(env)
    except StackError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
