"""Whether an answer is of the form that was asked for."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]

_MOST = 200


def find_problem(text: str, schema: dict[str, Any]) -> str | None:
    """What is wrong with an answer; `None` when it is JSON that fits the schema."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"it is no JSON: {error}"
    try:
        jsonschema.validate(value, schema)
    except jsonschema.ValidationError as error:
        where = "/".join(str(step) for step in error.absolute_path) or "the whole"
        return f"{where}: {error.message}"[:_MOST]
    except jsonschema.SchemaError as error:
        return f"the schema itself is wrong: {error.message}"[:_MOST]
    return None
