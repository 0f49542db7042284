"""`python -m bench.jobs_bare`: the SDK's own tool runner with a shell; no journal, no sandbox."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic
from anthropic.lib.tools import BetaAsyncBuiltinFunctionTool
from anthropic.types.beta import BetaToolUnionParam

from bench import jobs_meter
from bench.jobs_meter import Meter


class Bash(BetaAsyncBuiltinFunctionTool):
    """Runs each command in a shell of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def to_dict(self) -> BetaToolUnionParam:
        return {"type": "bash_20250124", "name": "bash"}

    async def call(self, input: object) -> str:
        assert isinstance(input, dict)
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", input["command"]),
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return output.decode(errors="replace") or "(no output)"


async def do_one(client: AsyncAnthropic, asked: dict[str, Any]) -> None:
    """One job in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="ff-bench-") as name:
        jobs_meter.write_files(Path(name))
        runner = client.beta.messages.tool_runner(
            model=asked["model"],
            max_tokens=16_000,
            messages=[{"role": "user", "content": asked["prompt"]}],
            tools=[Bash(Path(name))],
            cache_control={"type": "ephemeral"},
            thread=False,
        )
        replies = [reply async for reply in runner]
        assert len(replies) == jobs_meter.TURNS, replies
        jobs_meter.check(Path(name))


async def work(asked: dict[str, Any], meter: Meter) -> None:
    async with AsyncAnthropic(api_key="rehearsal", base_url=asked["url"]) as client:
        await do_one(client, asked)
        meter.started()
        await asyncio.gather(*(do_one(client, asked) for _ in range(asked["jobs"])))
        meter.done()


if __name__ == "__main__":
    jobs_meter.run(lambda asked, meter: asyncio.run(work(asked, meter)))
