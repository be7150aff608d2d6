# mypy: allow-untyped-calls
"""Who may send work to Dask: a scheduler runs all that it receives, so those that geoml starts require a key.

Certificates of schedulers that others run come from Dask's own configuration: ``distributed.comm.tls`` in its YAML, or
``DASK_DISTRIBUTED__COMM__TLS__…`` (https://distributed.dask.org/en/stable/tls.html).
"""

from __future__ import annotations

from distributed import Security

from geoml.errors import InputError

_VARIABLES = "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and …__CLIENT__KEY"


def private(count: int, threads: int) -> dict[str, object]:
    """Options of a `distributed.LocalCluster` of ``count`` processes that works for this process alone.

    All of it speaks TLS on loopback, with a key that is made here, lives in memory and ends with the cluster: whoever
    else connects, without TLS or with another certificate, is refused before a word is read.
    """
    return {
        "n_workers": count,
        "threads_per_worker": threads,
        "processes": True,
        "memory_limit": 0,  # memory is bounded by the blocks
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "security": Security.temporary(),
    }


def credentials(address: str) -> Security:
    """The certificates that Dask's configuration has for the scheduler at ``address``, tcp://… or tls://….

    Raises InputError if ``tls://`` has none that can be loaded, or where the configuration asks for encryption and
    the address has none.
    """
    security = Security()
    if not address.startswith("tls://"):
        if security.require_encryption:
            raise InputError(f"GEOML_WORKERS: {address}: Dask's configuration asks for encryption; expected tls://…")
        return security
    try:
        context = security.get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as err:  # no such file, no certificate, a key of another one
        raise InputError(f"GEOML_WORKERS: {address}: unusable certificates ({err}); expected {_VARIABLES}") from err
    if context is None:
        raise InputError(f"GEOML_WORKERS: {address}: no certificates; expected {_VARIABLES}")
    return security
