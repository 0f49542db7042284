"""The tools a job's model has: their names and forms, and what happens when one is called.

A tool that fails is an answer to the model. A sandbox that is gone is none: it passes through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flowforge.engines.agent.edit import EditInput, Editor
from flowforge.engines.agent.output import OutputFiles
from flowforge.engines.agent.redaction import Redactor
from flowforge.engines.agent.shell import BashInput, Shell
from flowforge.engines.agent.tools_result import ToolResult
from flowforge.engines.sandboxes.sandbox import Sandbox
from flowforge.rules.jobs.spec import JobSpec

BASH = "bash"
EDIT = "str_replace_based_edit_tool"
_NAMES = {"bash": BASH, "edit": EDIT}
NICKNAMES = {name: nickname for nickname, name in _NAMES.items()}
"""What people call the tools, by the names the model knows."""

_COMMANDS = ("view", "create", "str_replace", "insert")
_EDIT_INPUT: TypeAdapter[EditInput] = TypeAdapter(EditInput)


@dataclass(frozen=True)
class Call:
    """A tool use, as the model's reply has it."""

    id: str
    name: str
    input: object


def definitions(spec: JobSpec) -> list[dict[str, object]]:
    """The tools of a job as the Messages API takes them, in an order that never changes."""
    known: dict[str, dict[str, object]] = {
        "bash": {"type": "bash_20250124", "name": BASH},
        "edit": {
            "type": "text_editor_20250728",
            "name": EDIT,
            "max_characters": spec.limits.tool_output,
        },
    }
    return [tool for name, tool in known.items() if name in spec.tools]


class Tools:
    """The tools of one attempt of a job.

    Args:
        spec: The job.
        sandbox: Where they do their work.
        folder: Where outputs are that the model is not shown whole; it must exist.
        redactor: Masks the job's secrets in all that leaves here.
    """

    def __init__(self, spec: JobSpec, sandbox: Sandbox, folder: Path, redactor: Redactor) -> None:
        limit = spec.limits.tool_output
        self._names = [_NAMES[name] for name in sorted(set(spec.tools))]
        self._redactor = redactor
        self._shell = Shell(
            sandbox,
            OutputFiles(folder, redactor, limit),
            timeout_seconds=spec.limits.tool_seconds,
            memory_mb=spec.sandbox.memory_mb,
        )
        self._editor = Editor(sandbox, limit)

    async def run(self, call: Call) -> ToolResult:
        """Do what a call asks for, or say what is wrong with it.

        Raises:
            SandboxLost: The sandbox is gone; what the call did may have taken effect.
        """
        result = await self._run(call)
        return replace(result, content=self._redactor.text(result.content))

    async def _run(self, call: Call) -> ToolResult:
        if call.name not in self._names:
            return ToolResult(
                f"There is no tool {call.name!r}. The tools are: {_list(self._names)}.",
                is_error=True,
            )
        try:
            if call.name == BASH:
                return await self._shell.run(BashInput.model_validate(call.input), call.id)
            return await self._editor.run(_EDIT_INPUT.validate_python(call.input))
        except ValidationError as error:
            return ToolResult(f"The input is wrong: {_explain(error)}.", is_error=True)


def _explain(error: ValidationError) -> str:
    """Which fields are wrong, and how."""
    said = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"] if part not in _COMMANDS)
        if problem["type"].startswith("union_tag"):
            said.append(f"field `command` must be one of {_list(_COMMANDS)}")
        elif field:
            said.append(f"field `{field}`: {problem['msg']}")
        else:
            said.append(problem["msg"].removeprefix("Value error, "))
    return "; ".join(said)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
