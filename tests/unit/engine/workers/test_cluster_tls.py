"""The certificates for a Dask scheduler come from Dask's configuration; what is missing there is said before a call."""

from __future__ import annotations

import ssl
from pathlib import Path

import dask
import pytest
from distributed import Security

from geoml.engine.workers.cluster_tls import credentials, private
from geoml.errors import InputError

TLS = "tls://127.0.0.1:8786"


def written(folder: Path) -> dict[str, str]:
    """A certificate and its key as files, as Dask's configuration names them."""
    made = Security.temporary().get_tls_config_for_role("client")
    names = {"ca-file": "ca_file", "client.cert": "cert", "client.key": "key"}
    for name, field in names.items():
        (folder / name).write_text(made[field])
    return {f"distributed.comm.tls.{name}": str(folder / name) for name in names}


def test_files_of_the_configuration_are_taken(tmp_path: Path) -> None:
    with dask.config.set(written(tmp_path)):
        context = credentials(TLS).get_connection_args("client")["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509"] == 1, "that of the file, and none of the system"


def test_no_certificates_are_an_error_that_names_the_variables() -> None:
    with pytest.raises(InputError, match=r"GEOML_WORKERS: tls://\S+: no certificates; expected DASK_DISTRIBUTED__COMM"):
        credentials(TLS)


@pytest.mark.parametrize("broken", ["absent", "no certificate", "another's key"])
def test_certificates_that_cannot_be_used_are_an_error(broken: str, tmp_path: Path) -> None:
    config = written(tmp_path)
    key = tmp_path / "client.key"
    if broken == "absent":
        key.unlink()
    else:
        other = Security.temporary().get_tls_config_for_role("client")["key"]
        key.write_text(other if broken == "another's key" else "no key")
    with dask.config.set(config), pytest.raises(InputError, match="unusable certificates"):
        credentials(TLS)


def test_encryption_that_is_asked_for_is_not_left_out() -> None:
    assert not credentials("tcp://127.0.0.1:8786").require_encryption
    with (
        dask.config.set({"distributed.comm.require-encryption": True}),
        pytest.raises(InputError, match="asks for encryption"),
    ):
        credentials("tcp://127.0.0.1:8786")


def test_each_cluster_has_a_key_of_its_own() -> None:
    first, second = (private(1, 1)["security"].get_tls_config_for_role("worker") for _ in range(2))
    assert first["key"] != second["key"]
    assert first["ca_file"] == first["cert"], "it trusts itself and nobody else"
