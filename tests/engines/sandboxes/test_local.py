"""Sandboxes of this machine's kernel: who may have them, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flowforge.engines.sandboxes import cgroups, launch
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.sandbox import Provider
from tests.engines.sandboxes.box import SMALL, Box

ROOT = Path(__file__).parents[3]
BRAIN = """
import asyncio, sys
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.rules.jobs.spec import SandboxChoice
async def work():
    choice = SandboxChoice(memory_mb=256, disk_mb=64)
    sandbox = await LocalProvider().open("orphan", 7, choice)
    await sandbox.write_file("x", b"data")
    said = await sandbox.exec(["sh", "-c", "id -u; (setsid sleep 987 &)"], timeout_seconds=9)
    print(sandbox.id, said.head.decode().strip(), flush=True)
    if "stay" in sys.argv:
        await asyncio.sleep(600)
    await sandbox.close()
asyncio.run(work())
"""
WHY_NOT = """
from flowforge.engines.sandboxes import local
why = local.why_not()
print(type(why).__name__, why)
"""


@pytest.fixture(scope="module")
def provider(local: Provider) -> Provider:
    return local


def python(script: str, *words: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Run a script in a process that knows the product, maybe by another program before it."""
    places = [str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]
    program = sys.executable if not before else shutil.which("python3", path="/usr/bin") or ""
    return subprocess.Popen(
        [*before, program, "-c", script, *words],
        env={"PYTHONPATH": ":".join(places), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )


@contextlib.contextmanager
def brain() -> Iterator[tuple[subprocess.Popen[str], launch.Running]]:
    """Another process with an open sandbox in which something runs."""
    process = python(BRAIN, "stay")
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout
        sandbox_id = process.stdout.readline().split()[0]
        yield process, next(one for one in launch.find_running() if one.sandbox_id == sandbox_id)


def processes_of(running: launch.Running) -> list[psutil.Process]:
    found = psutil.Process(running.pid).children(recursive=True)
    assert ["sleep", "987"] in [process.cmdline() for process in found]
    return found


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []


def has_groups() -> bool:
    group = cgroups.make(f"try-{os.getpid()}", cgroups.Bounds(1 << 28, 10, 1))
    if group:
        group.remove()
    return group is not None


def test_nothing_survives_a_brain_that_is_killed(local: Provider, box: Box) -> None:
    with brain() as (process, running):
        assert (running.job, running.fence) == ("orphan", 7)
        inside = processes_of(running)
        process.send_signal(signal.SIGKILL)
        assert_gone(inside)
    assert running.sandbox_id not in [one for _, _, one in box.wait(local.list_open())]


def test_nothing_survives_a_guardian_that_is_killed(local: Provider) -> None:
    with brain() as (_, running):
        inside = processes_of(running)
        os.kill(running.pid, signal.SIGKILL)
        assert_gone(inside)


def test_the_sandbox_of_another_process_is_found_and_removed(local: Provider, box: Box) -> None:
    with brain() as (_, running):
        assert ("orphan", 7, running.sandbox_id) in box.wait(local.list_open())
        inside = processes_of(running)
        box.wait(local.remove(running.sandbox_id))
        assert_gone(inside)
        assert running.sandbox_id not in [one for _, _, one in box.wait(local.list_open())]


def test_a_command_that_calls_itself_a_sandbox_is_not_listed(local: Provider, box: Box) -> None:
    box.sh(f"python3 -c 'import time; time.sleep(60)' {launch.MARK} forged other-job 9 &")
    assert "forged" in box.says("cat /proc/*/cmdline")
    assert "forged" not in [one for _, _, one in box.wait(local.list_open())]


def test_closing_leaves_no_process_and_no_group(local: Provider, box: Box) -> None:
    box.sh("setsid sleep 987 &")
    guardian = next(r for r in launch.find_running() if r.sandbox_id == box.sandbox.id)
    children = [psutil.Process(guardian.pid)]
    children += children[0].children(recursive=True)
    assert len(children) >= 3
    box.wait(box.sandbox.close())
    assert [child for child in children if child.is_running()] == []
    places = Path("/sys/fs/cgroup").rglob(f"*{box.sandbox.id}*")
    assert list(places) == []


def test_groups_of_dead_sandboxes_are_swept_up() -> None:
    bounds = cgroups.Bounds(memory_bytes=1 << 28, processes=10, cpus=1)
    group = cgroups.make(f"test-{os.getpid()}", bounds)
    if group is None:
        pytest.skip("does not apply: no cgroup may be made here")
    cgroups.sweep(set())
    assert all(folder.is_dir() for folder in group.folders), "it may just be about to start"
    for folder in group.folders:
        os.utime(folder, (1, 1))
    cgroups.sweep({f"test-{os.getpid()}"})
    assert all(folder.is_dir() for folder in group.folders), "it is alive"
    cgroups.sweep(set())
    assert not any(folder.exists() for folder in group.folders)


def test_memory_without_an_owner_is_bounded_by_the_kernel(box: Box) -> None:
    if not has_groups():
        pytest.skip("does not apply: no cgroup may be made here")
    hoard = (
        "import os; n = [os.memfd_create('x') for _ in range(100)]; b = bytes(1 << 20)\n"
        "for fd in n:\n for _ in range(60): os.write(fd, b)\n"
    )
    ran = box.sh(f'python3 -c "{hoard}"')
    assert ran.out_of_memory
    assert box.says("echo alive") == "alive"


@pytest.mark.skipif(os.geteuid() != 0, reason="does not apply: only root can become another")
def test_an_ordinary_user_gets_the_same_sandbox(local: Provider) -> None:
    change = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
    with python(BRAIN, before=change) as process:
        said = process.communicate(timeout=30)[0].split()
    assert process.returncode == 0
    assert said[1] == "1000"


def test_a_machine_without_user_namespaces_is_told_what_to_change(local: Provider) -> None:
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    change = ("unshare", "-U", "--map-user=1000", "--keep-caps", "sh", "-c", forbid, "sh")
    with python(WHY_NOT, before=change) as process:
        said = process.communicate(timeout=30)[0]
    assert said.startswith("Refused This place cannot be a sandbox: unshare")
    assert "sysctl -w user.max_user_namespaces" in said


def test_a_sandbox_starts_quickly(local: Provider, box: Box) -> None:
    async def start() -> None:
        sandbox = await LocalProvider().open("quick", 1, SMALL)
        await sandbox.exec(["true"], timeout_seconds=5)
        await sandbox.close()

    def timed() -> float:
        started = time.monotonic()
        box.wait(start())
        return time.monotonic() - started

    assert min(timed() for _ in range(3)) < 5
