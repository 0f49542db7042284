"""What a caller of the Messages API sends, read strictly enough to find its mistakes."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowforge.twin.model.problems import Rejected

Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CacheControl(_Strict):
    """A breakpoint: what lies before it may be read from the cache next time."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class Block(BaseModel):
    """A block of a message, of the system prompt, or within a tool's result."""

    model_config = ConfigDict(extra="allow")

    type: str
    cache_control: CacheControl | None = None
    text: str = ""
    thinking: str = ""
    signature: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, object] = Field(default_factory=dict)
    tool_use_id: str = ""
    content: str | list[Block] | None = None
    is_error: bool | None = None

    def shown(self) -> str:
        """The text a reader of this block would see."""
        if isinstance(self.content, list):
            return "\n".join(block.shown() for block in self.content)
        return self.text or self.content or ""


class Message(_Strict):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    def blocks(self) -> list[Block]:
        """Its content as blocks."""
        if isinstance(self.content, str):
            return [Block(type="text", text=self.content)]
        return self.content


class Tool(BaseModel):
    """A tool the model may use; what is special to a type is kept and not looked at."""

    model_config = ConfigDict(extra="allow")

    type: str | None = None
    name: str = ""
    input_schema: dict[str, object] | None = None
    cache_control: CacheControl | None = None


class ToolChoice(_Strict):
    """Whether and which tool must be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(_Strict):
    """Whether the model thinks before it answers."""

    type: Literal["adaptive", "enabled", "disabled", "between_tools"]
    budget_tokens: int | None = None
    display: str | None = None


class JsonFormat(BaseModel):
    """The form of a structured answer."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    type: Literal["json_schema"]
    schema_: dict[str, object] = Field(alias="schema")


class OutputConfig(_Strict):
    """How hard to try, and the form of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class Diagnostics(_Strict):
    """Asks why the cache did not help."""

    previous_message_id: str | None = None


class Thread(_Strict):
    """Has the server remember the conversation, so that only what is new need be sent."""

    type: Literal["create", "continue"]
    previous_message_id: str | None = None


class Counted(_Strict):
    """What decides the tokens of a prompt."""

    model: str
    messages: list[Message] = Field(min_length=1)
    system: str | list[Block] = ""
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None
    speed: Literal["standard", "fast"] | None = None

    def system_blocks(self) -> list[Block]:
        """The system prompt as blocks."""
        if isinstance(self.system, str):
            return [Block(type="text", text=self.system)] if self.system else []
        return self.system

    def turn(self) -> int:
        """How many replies the conversation already has."""
        return sum(message.role == "assistant" for message in self.messages)

    def prompt(self) -> str:
        """What the first message says."""
        return "\n".join(block.shown() for block in self.messages[0].blocks())


class Asked(Counted):
    """The body of POST /v1/messages."""

    max_tokens: int = Field(ge=0)
    stream: bool = False
    stop_sequences: list[str] = Field(default_factory=list)
    diagnostics: Diagnostics | None = None
    thread: Thread | None = None
    metadata: dict[str, object] | None = None
    container: str | dict[str, object] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)


class BatchItem(_Strict):
    """One request of a batch; its parameters are looked at when its turn comes."""

    custom_id: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    params: dict[str, object]


class BatchAsked(_Strict):
    """The body of POST /v1/messages/batches."""

    requests: list[BatchItem] = Field(min_length=1, max_length=100_000)


def read(kind: type[Body], content: bytes) -> Body:
    """Read the JSON of a request.

    Raises:
        Rejected: It is no JSON, or a field is missing, unknown or of the wrong type.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        said = {"extra_forbidden": "Extra inputs are not permitted"}.get(
            first["type"], first["msg"]
        )
        raise Rejected(400, f"{where}: {said}" if where else said) from None
