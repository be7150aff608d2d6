"""Signatures of URLs under Prefect: its database, logs and artifacts never hold one.

A parameter of a deployment names what signs its URL, ``https://host/model?{name}``, and the worker fills it in: from
its environment variable ``SIGNATURE_NAME``, else from Prefect's Secret block ``signature-name``. Forms take no other
query. A flow that is called directly takes signed URLs, and Prefect stores them without the signature.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow
from prefect.blocks.system import Secret
from prefect.exceptions import ParameterTypeError
from prefect.runtime import flow_run

from geoml.errors import InputError
from geoml.redacted import bare, redact
from geoml.texts import plain, short

P = ParamSpec("P")
R = TypeVar("R")

PATTERN = r"^(?:(?![A-Za-z][A-Za-z0-9+.\-]*:[/\\]{2})[^@?]*|[A-Za-z][A-Za-z0-9+.\-]*://[^@?#/\\]*(?:/[^?#]*)?(?:\?\{[a-z0-9\-]+\})?)$"
"""Of a text in a form: a path, or a URL without a secret."""

_NAMED = re.compile(r"([^?]*)\?\{([a-z0-9-]{1,80})\}")


class SecretFlow(Flow[P, R]):
    """A flow that hides the secrets in its parameters from Prefect, also in errors."""

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {k: _redacted(v) for k, v in super().serialize_parameters(parameters).items()}

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return super().validate_parameters(parameters)
        except ParameterTypeError as err:
            raise ParameterTypeError(plain(redact(" ".join(str(err).split())))) from None


def flow(name: str, description: str) -> Callable[[Callable[P, R]], SecretFlow[P, R]]:
    """Make a function a `SecretFlow` that prints nothing and keeps no result; its runs are named by `run_name`."""
    how = {"flow_run_name": run_name, "log_prints": False, "persist_result": False}
    return lambda run: SecretFlow(run, name=name, description=description, **how)  # type: ignore[arg-type]


NAMED_BY = (("recipe", "model"), ("collection", "catalog", "cube", "table", "run"), ("datetime", "until"))
"""Of each, the first parameter that is given is a part of the name of a run."""
LONGEST = 40
"""Characters of a part."""


def run_name() -> str:
    """The name of the run that begins: model, collection and date, else the time at which it was due."""
    given = flow_run.parameters
    found = [next((given[n] for n in names if given.get(n)), None) for names in NAMED_BY]
    *words, when = [_word(value) for value in found]
    start = flow_run.scheduled_start_time
    return " ".join(filter(None, [*words, when or f"{start:%Y-%m-%d %H:%M}"]))


def _word(value: object) -> str:
    """A value in a word without secrets: of a path or a URL its last part, of several dates all of them."""
    if isinstance(value, list | tuple):
        return short(" and ".join(map(str, value)), LONGEST)
    text = bare(str(value or ""))
    return short(plain(text.rstrip("/").rpartition("/")[2].removesuffix(".yaml")), LONGEST)


def _redacted(value: object) -> object:
    if isinstance(value, str):
        return value if _NAMED.fullmatch(value) else bare(value)
    if isinstance(value, dict):
        return {k: _redacted(v) for k, v in value.items()}
    return [_redacted(v) for v in value] if isinstance(value, list | tuple) else value


def resolved(value: Any) -> Any:
    """``value`` of a parameter with the signatures that it names. Raises InputError for one that is nowhere."""
    if isinstance(value, list | tuple):
        return [resolved(v) for v in value]
    match = _NAMED.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    place, name = match.groups()
    variable = f"SIGNATURE_{name.upper().replace('-', '_')}"
    signature = os.environ.get(variable) or _block(f"signature-{name}")
    if not signature:
        raise InputError(
            f"{{{name}}}: nothing signs {place}; expected the environment variable {variable} of the worker or the "
            f"Secret block signature-{name} of Prefect"
        )
    return f"{place}?{signature.removeprefix('?')}"


def _block(name: str) -> str | None:
    try:
        loaded: Any = Secret.load(name)
        return str(loaded.get())
    except ValueError:  # there is none of this name
        return None
