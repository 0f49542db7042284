"""The models one may ask for, and what each allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from flowforge.twin.model.problems import Rejected

_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Model:
    """One model."""

    id: str
    line: str
    max_tokens: int = 128_000
    """The most one reply may hold."""

    max_input_tokens: int = 1_000_000
    """Its context window."""

    lifecycle: str = "active"
    retires_at: str | None = None
    always_thinks: bool = False
    """Thinking cannot be switched off, and no tool can be forced."""

    def to_json(self) -> dict[str, object]:
        """The object of the models endpoint."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.id.replace("-", " ").title(),
            "created_at": _EPOCH,
            "line": self.line,
            "lifecycle": self.lifecycle,
            "deprecated_at": _EPOCH if self.lifecycle != "active" else None,
            "retires_at": self.retires_at,
            "max_tokens": self.max_tokens,
            "max_input_tokens": self.max_input_tokens,
            "capabilities": None,
        }


_OPUS_45 = Model("claude-opus-4-5", "opus", 64_000, 200_000)
_SONNET_45 = Model(
    "claude-sonnet-4-5", "sonnet", 64_000, 200_000, "deprecated", "2026-11-30T00:00:00Z"
)
_HAIKU_45 = Model("claude-haiku-4-5", "haiku", 64_000, 200_000)
_MODELS = (
    Model("claude-fable-5-2", "fable"),
    Model("claude-fable-5-1", "fable", always_thinks=True),
    Model("claude-fable-5", "fable"),
    Model("claude-mythos-5-2", "mythos"),
    Model("claude-mythos-5-1", "mythos"),
    Model("claude-mythos-5", "mythos"),
    Model("claude-opus-5-5", "opus", always_thinks=True),
    Model("claude-opus-5", "opus"),
    Model("claude-opus-4-8", "opus"),
    Model("claude-opus-4-7", "opus"),
    Model("claude-opus-4-6", "opus"),
    _OPUS_45,
    replace(_OPUS_45, id="claude-opus-4-5-20251101"),
    Model("claude-sonnet-5-5", "sonnet"),
    Model("claude-sonnet-5", "sonnet"),
    Model("claude-sonnet-4-6", "sonnet"),
    _SONNET_45,
    replace(_SONNET_45, id="claude-sonnet-4-5-20250929"),
    Model("claude-haiku-5-5", "haiku"),
    _HAIKU_45,
    replace(_HAIKU_45, id="claude-haiku-4-5-20251001"),
    Model("claude-3-opus-20240229", "opus", 4_096, 200_000, "retired", "2026-01-05T00:00:00Z"),
)
MODELS = {model.id: model for model in _MODELS}


def find(model_id: str) -> Model:
    """The model of that name, also a retired one.

    Raises:
        Rejected: There is none.
    """
    if model_id not in MODELS:
        raise Rejected(404, f"model: {model_id}")
    return MODELS[model_id]


def usable(model_id: str) -> Model:
    """The model of that name, if it still answers.

    Raises:
        Rejected: There is none, or it was retired.
    """
    model = find(model_id)
    if model.lifecycle == "retired":
        raise Rejected(404, f"model: {model_id} was retired on {model.retires_at}")
    return model


def page(query: dict[str, list[str]]) -> dict[str, object]:
    """A page of the list of models.

    Args:
        query: `limit`, `after_id`, `before_id` and `lifecycle` as they came with the address.
    """
    wanted = [*query.get("lifecycle", []), *query.get("lifecycle[]", [])]
    stages = wanted or ["active", "deprecated"]
    rows = [model for model in _MODELS if model.lifecycle in stages]
    return paged([model.to_json() for model in rows], query)


def paged(rows: list[dict[str, object]], query: dict[str, list[str]]) -> dict[str, object]:
    """Cut one page out of a list of objects that have an `id`.

    Raises:
        Rejected: The limit is no number from 1 to 1000.
    """
    limit = query.get("limit", ["20"])[0]
    if not limit.isdigit() or not 1 <= int(limit) <= 1000:
        raise Rejected(400, "limit: Input should be between 1 and 1000")
    ids = [row["id"] for row in rows]
    after, before = query.get("after_id", [""])[0], query.get("before_id", [""])[0]
    start = ids.index(after) + 1 if after in ids else 0
    end = ids.index(before) if before in ids else len(rows)
    chosen = rows[start:end]
    chosen = chosen[-int(limit) :] if before else chosen[: int(limit)]
    return {
        "data": chosen,
        "has_more": len(chosen) < end - start,
        "first_id": chosen[0]["id"] if chosen else None,
        "last_id": chosen[-1]["id"] if chosen else None,
    }


def stamp(moment: datetime | None = None) -> str:
    """A moment, by default now, as the API writes it."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
