"""What may be sent as a run's parameters: Prefect keeps and shows them, so no secret."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue, SecretStr
from pydantic_core import to_jsonable_python

from flowforge.errors import Refused
from flowforge.rules import names


def check_parameters(parameters: Mapping[str, object]) -> dict[str, JsonValue]:
    """Return the parameters as JSON.

    Raises:
        Refused: One of them holds a password.
    """
    for name, value in parameters.items():
        if isinstance(value, SecretStr) or any(
            names.looks_like_secret(text) for text in _texts(to_jsonable_python(value))
        ):
            raise Refused(
                f"The parameter {name!r} holds a password.",
                hint="Save the system once with `flowforge database add NAME` (the URL on standard "
                "input), then pass NAME.",
            )
    return {name: to_jsonable_python(value) for name, value in parameters.items()}


def _texts(value: JsonValue) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return [text for item in (*value, *value.values()) for text in _texts(item)]
    return []


def schema_hint(deployment: Mapping[str, JsonValue]) -> str:
    """The parameters a deployment takes, as a hint."""
    schema = deployment.get("parameter_openapi_schema")
    required = schema.get("required") if isinstance(schema, dict) else None
    needed = required if isinstance(required, list) else []
    taken = [f"{name} (required)" if name in needed else name for name in _properties(deployment)]
    return f"It takes: {', '.join(taken) or 'no parameters'}."


def _properties(deployment: Mapping[str, JsonValue]) -> list[str]:
    schema = deployment.get("parameter_openapi_schema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return []
    # The server keeps JSON without an order; Prefect notes each parameter's place beside it.
    return sorted(properties, key=lambda name: _position(properties[name]))


def _position(described: JsonValue) -> int:
    place = described.get("position") if isinstance(described, dict) else None
    return place if isinstance(place, int) else 0


def check_names(
    deployment: str, parameters: Mapping[str, JsonValue], known: Mapping[str, JsonValue]
) -> None:
    """Check the names of a run's parameters against the deployment's own.

    Raises:
        Refused: The flow has no such parameter.
    """
    # The server checks values but lets unknown names through, and the run would crash on them.
    unknown = [name for name in parameters if name not in _properties(known)]
    if unknown:
        raise Refused(
            f"{deployment} has no parameter {', '.join(map(repr, unknown))}.",
            hint=schema_hint(known),
        )
