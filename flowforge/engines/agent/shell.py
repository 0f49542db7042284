"""The bash tool: one shell for each command, which goes on where the one before stopped."""

from __future__ import annotations

from pydantic import Field, model_validator

from flowforge.engines.agent.output import OutputFiles
from flowforge.engines.agent.tools_result import ToolInput, ToolResult
from flowforge.engines.sandboxes.sandbox import Sandbox
from flowforge.rules.jobs.output import how_it_ended

# Folder and exported variables are written down when a shell ends, in a form the next one reads.
# The command comes by standard input, as an argument may not be as long as a file the model writes.
_SHELL = r"""
__state=${TMPDIR:-/tmp}/.shell-$1
__command=$(cat)
set --
if [ -e "$__state" ]; then . "$__state"; fi
__keep() {
  { set +x; } 2>/dev/null
  { export -p
    printf 'cd -- %q 2>/dev/null || echo "(the folder it was in is gone)"\n' "$PWD"
  } >| "$__state.new" && command -p mv -f -- "$__state.new" "$__state"
}
trap '__status=$?; __keep; exit $__status' EXIT
eval "$__command"
"""

# A model edits a file twice in a second, which Python's compiled files do not notice.
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}


class BashInput(ToolInput):
    """What the model gives to the bash tool."""

    command: str | None = Field(default=None, min_length=1)
    restart: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> BashInput:
        if self.command is None and not self.restart:
            raise ValueError("field `command` is missing")
        if self.command and "\0" in self.command:
            raise ValueError("field `command` holds a NUL, which no shell takes")
        return self


class Shell:
    """The shells of one job in one sandbox."""

    def __init__(
        self, sandbox: Sandbox, files: OutputFiles, *, timeout_seconds: float, memory_mb: int
    ) -> None:
        self._sandbox = sandbox
        self._files = files
        self._timeout_seconds = timeout_seconds
        self._memory_mb = memory_mb
        self._restarts = 0

    async def run(self, given: BashInput, tool_use_id: str) -> ToolResult:
        """Run a command, or begin anew.

        Raises:
            SandboxLost: The sandbox is gone; the command may have taken effect.
        """
        if given.restart:
            self._restarts += 1
            await self._sandbox.kill_all()
            return ToolResult(
                "The shell is new; everything it had started was ended.", changed=True
            )
        try:
            return await self._run(given.command or "", tool_use_id)
        except BaseException:
            self._files.discard(tool_use_id)
            raise

    async def _run(self, command: str, tool_use_id: str) -> ToolResult:
        with self._files.open(tool_use_id) as file:
            ran = await self._sandbox.exec(
                ["bash", "-c", _SHELL, "bash", str(self._restarts)],
                timeout_seconds=self._timeout_seconds,
                input=command.encode(),
                env=_ENVIRONMENT,
                spool=file,
            )
        shown = self._files.show(tool_use_id, ran)
        ended = how_it_ended(
            ran.status,
            ran.seconds,
            timed_out=ran.timed_out,
            out_of_memory=ran.out_of_memory,
            memory_mb=self._memory_mb,
        )
        parts = [shown.text.rstrip("\n"), f"[{ended}]" if ended else ""]
        return ToolResult(
            "\n".join(part for part in parts if part) or "(no output)",
            is_error=ran.timed_out or ran.out_of_memory,
            changed=True,
            artifact=shown.artifact,
        )
