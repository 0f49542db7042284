"""How the tests ask the rehearsal model, by the real SDK."""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic

from tests.rehearsal import scripted

ONE_REPLY = scripted({"text": "Well."})
MODEL = "claude-opus-5-5"
TOOLS: Any = [
    {"type": "bash_20250124", "name": "bash"},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
]


def user(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


def ask(client: Anthropic, prompt: str, **options: Any) -> Any:
    given = {"model": MODEL, "max_tokens": 1000, "tools": TOOLS, "messages": user(prompt)}
    return client.messages.create(**(given | options))


def ask_stream(client: Anthropic, prompt: str, **options: Any) -> Any:
    given = {"model": MODEL, "max_tokens": 1000, "tools": TOOLS, "messages": user(prompt)}
    with client.messages.stream(**(given | options)) as stream:
        return stream.get_final_message()
