"""What the API refuses of a request that is well formed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from flowforge.twin.model.asked import Asked, Block, Counted, Message
from flowforge.twin.model.models import Model
from flowforge.twin.model.problems import Rejected
from flowforge.twin.model.prompts import Prompt

_BREAKPOINTS = 4
_BLOCKS = {
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "container_upload",
}
_NAMES = {"bash_20250124": "bash", "text_editor_20250728": "str_replace_based_edit_tool"}


def check(asked: Asked, model: Model) -> None:
    """Look for what makes a request senseless.

    Raises:
        Rejected: The first such thing, in the words of the API where they are known.
    """
    if asked.max_tokens > model.max_tokens:
        raise Rejected(
            400,
            f"max_tokens: {asked.max_tokens} > {model.max_tokens}, which is the maximum allowed "
            f"number of output tokens for {model.id}",
        )
    check_prompt(asked, model)


def check_prompt(asked: Counted, model: Model) -> None:
    """Look for what makes a prompt senseless, also one that is only counted.

    Raises:
        Rejected: The first such thing.
    """
    _check_tools(asked)
    if model.always_thinks:
        if asked.thinking and asked.thinking.type == "disabled":
            raise Rejected(400, f"thinking: {model.id} does not support disabling thinking")
        if asked.tool_choice and asked.tool_choice.type in ("any", "tool"):
            raise Rejected(400, f"tool_choice: {model.id} does not support forcing a tool")
    if asked.messages[0].role != "user":
        raise Rejected(400, "messages: first message must use the `user` role")
    for number, message in enumerate(asked.messages):
        _check_blocks(number, message, asked.model)
    _check_pairs(asked.messages)
    last = asked.messages[-1]
    if last.role == "assistant" and last.blocks()[-1].type != "server_tool_use":
        raise Rejected(
            400,
            "This model does not support assistant message prefill. The conversation must end "
            "with a user message.",
        )


def check_breakpoints(prompt: Prompt) -> None:
    """Look whether the cache's breakpoints are as the API allows them.

    Raises:
        Rejected: There are too many, or a short-lived one lies before a long-lived one.
    """
    ttls = [step.ttl for step in prompt.steps if step.ttl]
    if len(ttls) > _BREAKPOINTS:
        raise Rejected(
            400,
            f"A maximum of {_BREAKPOINTS} blocks with cache_control may be provided. "
            f"Found {len(ttls)}.",
        )
    if "5m" in ttls and "1h" in ttls[ttls.index("5m") :]:
        raise Rejected(
            400, "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
        )


def sign(model: str, thinking: str) -> str:
    """The signature of a thinking block, which binds it to the model."""
    return hashlib.sha256(f"{model}\0{thinking}".encode(errors="replace")).hexdigest()


def _check_tools(asked: Counted) -> None:
    names: set[str] = set()
    for number, tool in enumerate(asked.tools):
        if not tool.name:
            raise Rejected(400, f"tools.{number}.name: Field required")
        if tool.type in (None, "custom") and tool.input_schema is None:
            raise Rejected(400, f"tools.{number}.custom.input_schema: Field required")
        wanted = _NAMES.get(tool.type or "", tool.name)
        if tool.name != wanted:
            raise Rejected(400, f"tools.{number}.{tool.type}.name: Input should be '{wanted}'")
        if tool.name in names:
            raise Rejected(400, "tools: Tool names must be unique.")
        names.add(tool.name)
    choice = asked.tool_choice
    if choice and choice.type == "tool" and choice.name not in names:
        raise Rejected(400, f"tool_choice: Tool '{choice.name}' not found in provided tools")


def _check_blocks(number: int, message: Message, model: str) -> None:
    blocks = message.blocks()
    if not blocks:
        raise Rejected(400, f"messages.{number}: all messages must have non-empty content")
    for place, block in enumerate(blocks):
        where = f"messages.{number}.content.{place}"
        if block.type not in _BLOCKS:
            raise Rejected(400, f"{where}: Input tag '{block.type}' found using 'type' is unknown")
        if block.type == "text" and not block.text:
            raise Rejected(400, f"{where}: text content blocks must be non-empty")
        if block.type == "tool_use" and not (block.id and block.name):
            raise Rejected(400, f"{where}.tool_use.{'name' if block.id else 'id'}: Field required")
        if block.type == "tool_result" and not block.tool_use_id:
            raise Rejected(400, f"{where}.tool_result.tool_use_id: Field required")
        if block.type == "thinking" and block.signature != sign(model, block.thinking):
            raise Rejected(400, f"{where}: Invalid `signature` in `thinking` block")


def _check_pairs(messages: list[Message]) -> None:
    """Every use of a tool needs its result in the message that follows, and no other."""
    used: set[str] = set()
    open_ids: list[str] = []
    for start, role, blocks in _merged(messages):
        results = [block.tool_use_id for block in blocks if block.type == "tool_result"]
        missing = [one for one in open_ids if one not in results]
        if missing:
            raise Rejected(400, _unanswered(start - 1, missing))
        for place, block in enumerate(blocks):
            if block.type == "tool_result" and block.tool_use_id not in open_ids:
                raise Rejected(400, _unexpected(start, place, block.tool_use_id))
        if len(set(results)) < len(results):
            raise Rejected(400, f"messages.{start}: each tool_use must have a single result")
        open_ids = [block.id for block in blocks if block.type == "tool_use"]
        if used.intersection(open_ids) or len(set(open_ids)) < len(open_ids):
            raise Rejected(400, f"messages.{start}: `tool_use` ids must be unique")
        if open_ids and role != "assistant":
            raise Rejected(400, f"messages.{start}: `tool_use` blocks can only be in `assistant`")
        used.update(open_ids)
    if open_ids:
        raise Rejected(400, _unanswered(len(messages) - 1, open_ids))


def _merged(messages: list[Message]) -> Iterator[tuple[int, str, list[Block]]]:
    """Messages of one role that follow one another count as one; with where it starts."""
    start, role, blocks = 0, messages[0].role, list(messages[0].blocks())
    for number, message in enumerate(messages[1:], 1):
        if message.role == role:
            blocks += message.blocks()
            continue
        yield start, role, blocks
        start, role, blocks = number, message.role, list(message.blocks())
    yield start, role, blocks


def _unanswered(number: int, ids: list[str]) -> str:
    return (
        f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately "
        f"after: {', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` "
        "block in the next message."
    )


def _unexpected(number: int, place: int, tool_use_id: str) -> str:
    return (
        f"messages.{number}.content.{place}: unexpected `tool_use_id` found in `tool_result` "
        f"blocks: {tool_use_id}. Each `tool_result` block must have a corresponding `tool_use` "
        "block in the previous message."
    )
