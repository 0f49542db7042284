from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from flowforge.local import processes, published, session
from flowforge.local.published import Seen
from flowforge.settings import PROJECT_ROOT
from tests.ports import free_port

SLEEP = "import time; time.sleep(600)"
# Leaves a child that has its own session, as a run of a worker has.
WITH_CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
with open(os.environ["FOLDER"] + "/child", "w") as file:
    file.write(f"{child.pid}\\n")
time.sleep(600)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
ANSWERING = """
import os, socket, sys
if os.path.exists(os.environ["FOLDER"] + "/broken"):
    sys.exit(7)
listener = socket.socket(fileno=int(os.environ["FLOWFORGE_LISTENERS"]))
while True:
    client, _ = listener.accept()
    client.sendall(str(os.getpid()).encode())
    client.close()
"""
LAST_WORDS = """
import os, signal, time
def leave(*_):
    with open(os.environ["FOLDER"] + "/order", "a") as file:
        file.write("NAME ")
    raise SystemExit
signal.signal(signal.SIGTERM, leave)
print("listening", flush=True)
time.sleep(600)
"""


def _kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def _gone(known: processes.Known | None) -> bool:
    return not processes.is_alive(known)


def _process(seen: Seen) -> processes.Known:
    assert seen.process is not None
    return seen.process


def test_a_part_that_is_killed_is_started_again(stage: Any, eventually: Any) -> None:
    stage.session.add(stage.part("one", SLEEP))
    first = _process(stage.running("one"))
    _kill(first.pid)
    second = stage.running("one", restarts=1)
    assert _process(second) != first
    assert second.exit_status == -signal.SIGKILL


def test_a_part_that_keeps_dying_is_given_up_until_asked_again(stage: Any, eventually: Any) -> None:
    stage.session.add(stage.part("one", "raise SystemExit(7)", crashes_allowed=1))

    def given_up() -> Seen | None:
        seen = stage.seen("one")
        return seen if seen and seen.status == published.FAILED else None

    seen = eventually(given_up)
    assert (seen.exit_status, seen.restarts) == (7, 1)
    stage.session.process.send_signal(signal.SIGHUP)
    eventually(lambda: (seen := stage.seen("one")) and seen.restarts == 3)


def test_a_command_that_does_not_exist_is_a_failed_part(stage: Any, eventually: Any) -> None:
    part = stage.part("one", SLEEP, crashes_allowed=0)
    stage.session.add(type(part)(**{**part.to_json(), "command": ("/no/such/program",)}))
    eventually(lambda: (seen := stage.seen("one")) and seen.status == published.FAILED)
    assert "could not be started" in stage.log.read_text()


def test_what_a_killed_part_left_behind_is_ended_before_it_starts_again(stage: Any) -> None:
    stage.session.add(stage.part("one", WITH_CHILD))
    child = processes.identify(stage.pid_in("child"))
    (stage.folder / "child").unlink()
    _kill(_process(stage.running("one")).pid)
    stage.running("one", restarts=1)
    assert _gone(child)
    assert stage.pid_in("child")


def test_what_a_part_forked_for_another_goes_on_without_it(stage: Any) -> None:
    stage.session.add(stage.part("one", WITH_CHILD, is_forking_for_others=True))
    child = processes.identify(stage.pid_in("child"))
    _kill(_process(stage.running("one")).pid)
    stage.running("one", restarts=1)
    assert not _gone(child)


def _ask(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        return int(client.recv(20))


def test_who_connects_while_a_part_starts_again_waits_for_it(stage: Any, eventually: Any) -> None:
    port = free_port()
    stage.session.add(stage.part("one", ANSWERING, listens=(("127.0.0.1", port),)))
    first = _process(stage.running("one"))
    assert _ask(port) == first.pid
    _kill(first.pid)
    eventually(lambda: _gone(first))  # until it is, it may still take a connection with it
    second = _ask(port)
    assert second == _process(stage.running("one", restarts=1)).pid != first.pid


def test_a_part_that_was_given_up_refuses_at_once_and_answers_when_asked_again(
    stage: Any, eventually: Any
) -> None:
    port = free_port()
    (stage.folder / "broken").touch()
    part = stage.part("one", ANSWERING, listens=(("127.0.0.1", port),), crashes_allowed=0)
    stage.session.add(part)
    eventually(lambda: (seen := stage.seen("one")) and seen.status == published.FAILED)
    with pytest.raises(ConnectionRefusedError):
        _ask(port)
    (stage.folder / "broken").unlink()
    stage.session.process.send_signal(signal.SIGHUP)
    assert _ask_again(port, eventually) == _process(stage.running("one")).pid


def _ask_again(port: int, eventually: Any) -> int:
    def look() -> int | None:
        try:
            return _ask(port)
        except ConnectionRefusedError:
            return None

    found: int = eventually(look)
    return found


def test_a_port_that_is_taken_is_named_in_the_log_of_the_part(stage: Any, eventually: Any) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port := free_port()))
        holder.listen()
        part = stage.part("one", ANSWERING, listens=(("127.0.0.1", port),), crashes_allowed=0)
        stage.session.add(part)
        eventually(lambda: (seen := stage.seen("one")) and seen.status == published.FAILED)
    assert f"port {port} of 127.0.0.1" in Path(part.log).read_text()


def test_killing_the_supervisor_leaves_no_process(stage: Any, eventually: Any) -> None:
    stage.session.add(stage.part("one", WITH_CHILD))
    stage.session.add(stage.part("two", STUBBORN, level=1))
    everything = [
        _process(stage.running("one")),
        _process(stage.running("two")),
        processes.identify(stage.pid_in("child")),
    ]
    stage.session.detach()
    stage.session.process.kill()
    stage.session.process.wait()
    assert eventually(lambda: all(map(_gone, everything)))
    assert eventually(lambda: not processes.find_marked(processes.folder_mark(stage.folder)))


def test_a_killed_guard_is_replaced_and_still_guards(stage: Any, eventually: Any) -> None:
    stage.session.add(stage.part("one", WITH_CHILD))
    child = processes.identify(stage.pid_in("child"))
    mark = processes.mark_of(stage.folder, "guard")
    [guard] = eventually(lambda: processes.find_marked(mark))
    _kill(guard.pid)
    eventually(lambda: [g for g in processes.find_marked(mark) if g != guard])
    stage.session.process.kill()
    assert eventually(lambda: _gone(child))


def test_the_end_of_whoever_started_it_ends_everything(tmp_path: Path, eventually: Any) -> None:
    code = f"""
import pathlib, sys, time
from flowforge.local.part import Part
from flowforge.local.session import Session
folder = pathlib.Path({str(tmp_path)!r})
session = Session(folder, folder / "log")
session.start()
session.add(Part("one", (sys.executable, "-S", "-c", {SLEEP!r})))
time.sleep(600)
"""
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT)
    run = eventually(lambda: (r := published.read_run(tmp_path)) and "one" in r.parts and r)
    starter.kill()
    starter.wait()
    assert eventually(lambda: _gone(run.supervisor) and _gone(run.parts["one"].process))


def test_a_detached_supervisor_outlives_whoever_started_it(stage: Any) -> None:
    stage.session.add(stage.part("one", SLEEP))
    first = stage.running("one")
    stage.session.detach()
    _kill(_process(first).pid)
    assert stage.running("one", restarts=1)
    assert session.stop_running(stage.folder)
    assert published.read_run(stage.folder) is None


def test_parts_of_a_higher_level_are_stopped_first(stage: Any, eventually: Any) -> None:
    for level, name in enumerate(("database", "server", "worker")):
        code = LAST_WORDS.replace("NAME", name)
        stage.session.add(stage.part(name, code, level=level))
        eventually(
            lambda name=name: (
                "listening" in (stage.folder / f"{name}.log").read_text()
                if stage.running(name)
                else None
            )
        )
    stage.session.stop()
    assert (stage.folder / "order").read_text().split() == ["worker", "server", "database"]


def test_a_part_that_ignores_the_request_to_end_is_killed(stage: Any) -> None:
    stage.session.add(stage.part("one", STUBBORN, stop_seconds=0.2))
    known = _process(stage.running("one"))
    stage.session.stop()
    assert _gone(known)


def test_one_folder_has_one_supervisor(stage: Any, eventually: Any) -> None:
    stage.session.add(stage.part("one", SLEEP))
    stage.running("one")
    other = session.Session(stage.folder, stage.folder / "other.log")
    other.start()
    assert other.process is not None
    assert other.process.wait(20) == 3
    assert other.process.stdin is not None
    other.process.stdin.close()
    assert stage.seen("one").is_running


def test_a_start_after_a_kill_ends_what_is_left(stage: Any, eventually: Any) -> None:
    stage.session.add(stage.part("one", WITH_CHILD))
    stage.running("one")
    child = processes.identify(stage.pid_in("child"))
    stage.session.detach()
    # Not even the guard survives, as when every process of the platform is killed but one.
    for guard in processes.find_marked(processes.mark_of(stage.folder, "guard")):
        psutil.Process(guard.pid).suspend()
        stage.session.process.kill()
        stage.session.process.wait()
        _kill(guard.pid)
    assert not _gone(child)
    assert session.clean_up(stage.folder)
    assert _gone(child)


def test_no_secret_is_an_argument(stage: Any) -> None:
    part = stage.part("one", SLEEP)
    secret = type(part)(**{**part.to_json(), "environment": {"PASSWORD": "s3cr3t-value"}})
    stage.session.add(secret)
    known = _process(stage.running("one"))
    family = [psutil.Process(known.pid), *psutil.Process(stage.session.process.pid).children()]
    assert psutil.Process(known.pid).environ()["PASSWORD"] == "s3cr3t-value"
    assert not any("s3cr3t" in " ".join(process.cmdline()) for process in family)
    assert "s3cr3t" not in published.run_path(stage.folder).read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_the_kernel_ends_parts_even_when_the_guard_dies_too(stage: Any, eventually: Any) -> None:
    stage.session.add(stage.part("one", SLEEP))
    known = _process(stage.running("one"))
    [guard] = processes.find_marked(processes.mark_of(stage.folder, "guard"))
    psutil.Process(guard.pid).suspend()
    stage.session.process.kill()
    assert eventually(lambda: _gone(known))
    _kill(guard.pid)
