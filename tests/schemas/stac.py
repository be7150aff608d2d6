"""Validation of STAC objects without a network: pystac's validator with the schemas of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pystac.validation import stac_validator, validate_dict


def _offline() -> stac_validator.JsonSchemaSTACValidator:
    validator = stac_validator.JsonSchemaSTACValidator()
    for path in Path(__file__).parent.glob("*.json"):
        schema = json.loads(path.read_text(encoding="utf-8"))
        validator.schema_cache[schema["$id"]] = schema
    return validator


def validate(value: dict[str, Any]) -> list[str]:
    """Validate an item or a collection against core and all extensions; the schemas that were used.

    Raises pystac.STACValidationError, and LookupError for an extension that has no schema here.
    """
    validator = _offline()
    if missing := set(value.get("stac_extensions", ())) - validator.schema_cache.keys():
        raise LookupError(f"no schema for {sorted(missing)} in {Path(__file__).parent}")
    return [str(uri) for uri in validate_dict(value, validator=validator)]
