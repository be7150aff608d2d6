"""Signatures of URLs under Prefect: its database, logs and artifacts never hold one.

A parameter of a deployment names what signs its URL, ``https://host/model?{name}``, and the worker fills it in: from
its environment variable ``SIGNATURE_NAME``, else from Prefect's Secret block ``signature-name``. Forms take no other
query. A flow that is called directly takes signed URLs, and Prefect is told of them without the signature.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from prefect import Flow
from prefect.blocks.system import Secret
from prefect.exceptions import ParameterTypeError

from geoml.errors import InputError
from geoml.redacted import bare, redact
from geoml.texts import plain

F = TypeVar("F", bound=Flow[..., Any])

PATTERN = r"^(?:(?![A-Za-z][A-Za-z0-9+.\-]*:[/\\]{2})[^@?]*|[A-Za-z][A-Za-z0-9+.\-]*://[^@?#/\\]*(?:/[^?#]*)?(?:\?\{[a-z0-9\-]+\})?)$"
"""Of a text in a form: a path, or a URL that tells no secret."""

_NAMED = re.compile(r"([^?]*)\?\{([a-z0-9-]{1,80})\}")


def discreet(run: F) -> F:
    """Make a flow one that tells Prefect its parameters without secrets, also where they are wrong."""
    told, checked = run.serialize_parameters, run.validate_parameters

    def serialize(parameters: dict[str, Any]) -> dict[str, Any]:
        return {k: _hidden(v) for k, v in told(parameters).items()}

    def validate(parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return checked(parameters)
        except ParameterTypeError as err:
            raise ParameterTypeError(plain(redact(" ".join(str(err).split())))) from None

    changes: dict[str, Callable[..., Any]] = {"serialize_parameters": serialize, "validate_parameters": validate}
    for name, function in changes.items():
        setattr(run, name, function)
    return run


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return value if _NAMED.fullmatch(value) else bare(value)
    if isinstance(value, dict):
        return {k: _hidden(v) for k, v in value.items()}
    return [_hidden(v) for v in value] if isinstance(value, list | tuple) else value


def filled(value: Any) -> Any:
    """``value`` of a parameter with the signatures that it names. Raises InputError for one that is nowhere."""
    if isinstance(value, list | tuple):
        return [filled(v) for v in value]
    found = _NAMED.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    place, name = found.groups()
    variable = f"SIGNATURE_{name.upper().replace('-', '_')}"
    known = os.environ.get(variable) or _block(f"signature-{name}")
    if not known:
        raise InputError(
            f"{{{name}}}: nothing signs {place}; expected the environment variable {variable} of the worker or the "
            f"Secret block signature-{name} of Prefect"
        )
    return f"{place}?{known.removeprefix('?')}"


def _block(name: str) -> str | None:
    try:
        loaded: Any = Secret.load(name)
        return str(loaded.get())
    except ValueError:  # there is none of this name
        return None
