"""Who does the jobs: each as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import jobs_meter
from bench.jobs_meter import Reply
from flowforge.engines.sandboxes import local

OURS, FOLDER, BARE, MINI = "FlowForge", "FlowForge, no sandbox", "SDK tool runner", "mini-swe-agent"
END: Reply = {"text": "All done."}
_SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
_INSTALL_SECONDS = 180


@dataclass(frozen=True)
class Contender:
    """One way to do a job, as a process."""

    name: str
    command: list[str]
    asked: dict[str, Any]


def contenders(folder: Path) -> tuple[list[Contender], list[str]]:
    """Who can be measured here, and why the others cannot."""
    prompt, notes = jobs_meter.script(END), []
    module = [sys.executable, "-m"]
    who = [
        Contender(FOLDER, [*module, "bench.jobs_ours"], {"prompt": prompt, "sandbox": "folder"}),
        Contender(BARE, [*module, "bench.jobs_bare"], {"prompt": prompt}),
    ]
    lacking = local.why_not()
    if lacking is None:
        asked = {"prompt": prompt, "sandbox": "local"}
        who.insert(0, Contender(OURS, [*module, "bench.jobs_ours"], asked))
    else:
        notes.append(f"Not measured with sandboxes: {lacking}")
    try:
        python, version = install_mini(folder)
    except (OSError, subprocess.SubprocessError) as error:
        notes.append(f"{MINI} is not measured: {reason(error)}")
    else:
        end: Reply = {"text": "All done.", "tools": [{"bash": _SUBMIT}]}
        asked = {"prompt": jobs_meter.script(end)}
        who.append(Contender(MINI, [str(python), "-m", "bench.jobs_mini"], asked))
        notes.append(f"{MINI} is {version}: a thread for each job in one process.")
    return who, notes


def install_mini(folder: Path) -> tuple[Path, str]:
    """Make an environment of its own for mini-swe-agent; its Python, and its version.

    Raises:
        OSError: There is no uv.
        SubprocessError: It could not be installed.
    """
    python = folder / "mini-venv" / "bin" / "python"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for command in (
        ["uv", "venv", "--quiet", "--python", version, str(python.parent.parent)],
        ["uv", "pip", "install", "--quiet", "--python", str(python), MINI],
        [str(python), "-m", "compileall", "-q", str(python.parent.parent / "lib")],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
    told = "from importlib.metadata import version; print(version('mini-swe-agent'))"
    said = subprocess.run([str(python), "-c", told], check=True, capture_output=True, text=True)
    return python, said.stdout.strip()


def reason(error: Exception) -> str:
    """Why an installation failed, in a line."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    lines = (said or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else str(error)
