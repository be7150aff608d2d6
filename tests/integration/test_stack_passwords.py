"""The passwords that the local stack makes: what its services take, and what they refuse."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import obstore
import psycopg
import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def test_postgres_of_the_containers_takes_the_password_of_this_start_and_no_other(
    stack: ModuleType, services: Any
) -> None:
    """Data of a volume outlive a password: one that was made anew counts, and the one before does not."""
    script = (ROOT / "docker" / "postgres.sh").read_text()  # the user postgres may not enter the folder that it is in

    class Container(stack.Postgres):  # type: ignore[misc, name-defined]
        def launch(self) -> None:
            env = {"PGPORT": str(self.port), "PGPASSWORD": self.password}
            self.folder.chmod(0o777)
            words = ["sh", "-c", script, "postgres.sh", self.folder / "data"]
            self.spawn(words, env, user="postgres" if os.geteuid() == 0 else None)

        def dsn(self, database: str = "postgres", driver: str = "postgresql") -> str:
            return f"{driver}://postgres:{quote(self.password)}@127.0.0.1:{self.port}/{database}"

    running = services(Container)
    before = running.dsn()
    running.stop()
    running.password = "it's another"
    with running:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(before)
        how = {"host": "127.0.0.1", "port": running.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**how, password="it's another") as link:
            assert link.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError, match="no password"):
            psycopg.connect(**how)


def test_s3_refuses_whom_it_does_not_know(stack: ModuleType, s3: Any) -> None:
    obstore.put(s3.store, "passwords/x", b"x")
    for changed in ({"AWS_SECRET_ACCESS_KEY": "geoml"}, {"AWS_ACCESS_KEY_ID": "admin"}):
        stranger = stack.bucket_store(s3.bucket, {**s3.env, **changed})
        with pytest.raises((PermissionError, obstore.exceptions.BaseError)):
            obstore.get(stranger, "passwords/x")
        with pytest.raises((PermissionError, obstore.exceptions.BaseError)):
            obstore.put(stranger, "passwords/y", b"y")
