"""A value that fits a JSON schema, the same each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowforge.twin.model.problems import Rejected

Schema = Mapping[str, object]
_DEPTH = 32
_FORMATS = {
    "date-time": "2000-01-01T00:00:00Z",
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "rehearsal@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/rehearsal",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def example(schema: Schema) -> object:
    """Make a value of a schema, with the word `rehearsal` where any text will do.

    Raises:
        Rejected: The schema has no end, or refers to what it does not have.
    """
    return _value(schema, schema, 0)


def _value(schema: object, root: Schema, depth: int) -> object:
    if depth > _DEPTH:
        raise Rejected(400, "output_config.format.schema: a schema that contains itself")
    if not isinstance(schema, Mapping):
        return None
    merged = _resolved(schema, root, depth)
    for key in ("const", "default"):
        if key in merged:
            return merged[key]
    for key in ("enum", "examples"):
        options = merged.get(key)
        if isinstance(options, Sequence) and options:
            return options[0]
    kind = _kind(merged)
    if kind == "object":
        return _object(merged, root, depth)
    if kind == "array":
        items = merged.get("items", {})
        return [_value(items, root, depth + 1) for _ in range(_whole(merged, "minItems", 0))]
    if kind == "string":
        return _text(merged)
    if kind in ("integer", "number"):
        return _number(merged)
    return False if kind == "boolean" else None


def _resolved(schema: Schema, root: Schema, depth: int) -> dict[str, object]:
    """The schema with what it refers to, all of `allOf` and the first of `anyOf` put in."""
    merged = dict(schema)
    found: list[object] = []
    if isinstance(pointer := merged.pop("$ref", None), str):
        found.append(_pointed(pointer, root))
    if isinstance(every := merged.pop("allOf", None), Sequence):
        found += every
    for key in ("anyOf", "oneOf"):
        if isinstance(choices := merged.pop(key, None), Sequence) and choices:
            found.append(min(choices, key=lambda choice: "$ref" in str(choice)))
    for part in found:
        if not isinstance(part, Mapping) or depth > _DEPTH:
            raise Rejected(400, "output_config.format.schema: a part of it is no schema")
        merged = _joined(merged, _resolved(part, root, depth + 1))
    return merged


def _joined(one: dict[str, object], other: dict[str, object]) -> dict[str, object]:
    joined = {**other, **one}
    for key in ("properties", "required"):
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            joined[key] = {**theirs, **mine}
        elif isinstance(mine, list) and isinstance(theirs, list):
            joined[key] = [*theirs, *mine]
    return joined


def _pointed(pointer: str, root: Schema) -> object:
    place: object = root
    for step in pointer.removeprefix("#").strip("/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if name:
            place = place.get(name) if isinstance(place, Mapping) else None
    if place is None:
        raise Rejected(400, f"output_config.format.schema: {pointer} is not there")
    return place


def _kind(schema: Schema) -> object:
    kind = schema.get("type")
    if isinstance(kind, list):
        return kind[0] if kind else None
    return kind or ("object" if "properties" in schema else None)


def _object(schema: Schema, root: Schema, depth: int) -> dict[str, object]:
    properties = schema.get("properties")
    required = schema.get("required")
    known = properties if isinstance(properties, Mapping) else {}
    wanted = required if isinstance(required, list) else []
    return {name: _value(known.get(name, {}), root, depth + 1) for name in wanted}


def _text(schema: Schema) -> str:
    text = _FORMATS.get(str(schema.get("format")), "rehearsal")
    text = text.ljust(_whole(schema, "minLength", 0), ".")
    return text[: _whole(schema, "maxLength", len(text))]


def _number(schema: Schema) -> float:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    for bound, step in ((low, 0), (above, 1), (high, 0), (below, -1)):
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            return bound + step
    return 0


def _whole(schema: Schema, key: str, otherwise: int) -> int:
    value = schema.get(key)
    return value if isinstance(value, int) else otherwise
