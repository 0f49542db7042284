"""What a sandbox does to a job that means harm: every attempt is contained, and work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowforge.engines.sandboxes.sandbox import FileRefused, Provider
from tests.engines.sandboxes.box import SMALL, Box, entries
from tests.ports import free_port

# Tries something in Python and prints what came of it in one word.
ATTEMPT = """
import ctypes, errno, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, act):
    try:
        result = act()
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error.errno))
    else:
        print(name, "done" if result is None else result)
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
"""


def attempts(box: Box, script: str) -> dict[str, str]:
    box.write("attempt.py", (ATTEMPT + script).encode())
    said = box.says("python3 attempt.py")
    return dict(line.split(" ", 1) for line in said.splitlines())


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[Path]:
    """A file anybody on this machine may read."""
    place = Path("/tmp") / f"bait-{os.getpid()}"
    place.write_text("bait")
    place.chmod(0o644)
    yield place
    place.unlink()


@contextlib.contextmanager
def listening(family: int, kind: int, address: str | tuple[str, int]) -> Iterator[list[bytes]]:
    """A server of the host that notes who reached it."""
    reached: list[bytes] = []
    server = socket.socket(family, kind)
    server.bind(address)
    if kind == socket.SOCK_STREAM:
        server.listen()
    server.settimeout(0.05)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                if kind == socket.SOCK_STREAM:
                    server.accept()[0].close()
                    reached.append(b"")
                else:
                    reached.append(server.recv(100))

    thread = threading.Thread(target=serve)
    thread.start()
    yield reached
    over.set()
    thread.join()
    server.close()


def test_files_of_the_host_are_not_there(box: Box, bait: Path) -> None:
    for path in ["/etc/shadow", "/proc/kcore", "/run/docker.sock", str(bait), __file__]:
        assert box.sh(f"cat {path}").status != 0, path
    assert (
        box.says("ls -A /root /home /boot /mnt /var/lib/postgresql 2>/dev/null | grep -v :") == ""
    )
    for folder in ("/", "/usr", "/etc", "/sys", "/proc/sys/kernel"):
        assert box.sh(f"touch {folder}/x").status != 0, folder


def test_processes_of_the_host_are_not_there(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_BRAIN", "treasure")
    box.write("look.sh", b"cat /proc/*/environ /proc/*/cmdline; ls /proc | grep -c '^[0-9]'")
    said = box.says("bash look.sh 2>/dev/null")
    assert "treasure" not in said
    assert int(said.splitlines()[-1].split("\0")[-1]) < 10
    assert box.sh(f"kill -0 {os.getpid()}").status != 0


def test_the_keeper_cannot_be_read_stopped_or_traced(box: Box) -> None:
    found = attempts(
        box,
        """
attempt("environment", lambda: open("/proc/1/environ").read())
attempt("memory", lambda: open("/proc/1/mem", "rb"))
attempt("files", lambda: os.listdir("/proc/1/fd"))
attempt("trace", lambda: call(101, 16, 1, 0, 0))
attempt("attach", lambda: call(438, os.pidfd_open(1), 3, 0))
for name in ("KILL", "STOP", "INT", "TERM", "CHLD", "SEGV", "ABRT", "XFSZ"):
    try:
        os.kill(1, getattr(signal, "SIG" + name))
    except OSError:
        pass
""",
    )
    assert set(found.values()) <= {"EACCES", "EPERM"}
    assert len(found) == 5
    assert box.sh("kill -9 -1; true").status in (0, 1, 137)
    assert box.says("echo alive") == "alive"


def test_no_network_reaches_anything(box: Box) -> None:
    port = free_port()
    with (
        listening(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", port)) as tcp,
        listening(socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", port)) as udp,
        listening(socket.AF_UNIX, socket.SOCK_STREAM, f"\0abstract-{port}") as abstract,
    ):
        own = socket.gethostbyname(socket.gethostname())
        found = attempts(
            box,
            f"""
socket.setdefaulttimeout(2)
def tcp(host, port):
    socket.create_connection((host, port)).close()
def udp(host):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (host, {port}))
def abstract():
    socket.socket(socket.AF_UNIX).connect("\\0abstract-{port}")
attempt("loopback", lambda: tcp("127.0.0.1", {port}))
attempt("host", lambda: tcp({own!r}, {port}))
attempt("metadata", lambda: tcp("169.254.169.254", 80))
attempt("metadata6", lambda: tcp("fd00:ec2::254", 80))
attempt("internet", lambda: tcp("1.1.1.1", 443))
attempt("name", lambda: tcp("example.com", 443))
attempt("datagram", lambda: udp("1.1.1.1"))
attempt("datagram_to_loopback", lambda: udp("127.0.0.1"))
attempt("abstract", abstract)
attempt("machine", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("packet", lambda: socket.socket(17, socket.SOCK_RAW))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
""",
        )
    if box.provider.kind == "kubernetes":
        found.pop("datagram")  # it is sent, and dropped by the policy on its way
    assert found.pop("datagram_to_loopback") == "done"  # into its own, where nobody listens
    assert "done" not in found.values(), found
    assert (tcp, udp, abstract) == ([], [], [])


def test_sockets_of_the_host_are_not_there(box: Box, tmp_path: Path) -> None:
    place = Path("/tmp") / f"socket-{os.getpid()}"
    with listening(socket.AF_UNIX, socket.SOCK_STREAM, str(place)) as reached:
        place.chmod(0o777)
        found = attempts(
            box,
            f"""
for path in ({str(place)!r}, "/var/run/docker.sock", "/run/postgresql/.s.PGSQL.5432"):
    attempt(path, lambda: socket.socket(socket.AF_UNIX).connect(path))
""",
        )
    place.unlink()
    assert set(found.values()) == {"ENOENT"}
    assert reached == []


def test_its_own_loopback_works(box: Box) -> None:
    box.sh("python3 -m http.server 8000 --bind 127.0.0.1 >log 2>&1 & echo hello > file")
    ask = "from urllib.request import *; print(urlopen('http://127.0.0.1:8000/file').read())"
    script = f'for i in $(seq 100); do python3 -c "{ask}" 2>/dev/null && break; sleep 0.05; done'
    assert box.says(script) == "b'hello\\n'"


def test_no_privilege_can_be_had(box: Box) -> None:
    found = attempts(
        box,
        """
attempt("user_namespace", lambda: call(272, 0x10000000))
attempt("mount_namespace", lambda: call(272, 0x00020000))
attempt("clone_user", lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))
attempt("mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, None))
attempt("open_tree", lambda: call(428, -100, b"/", 1))
attempt("chroot", lambda: os.chroot("/tmp"))
attempt("setuid", lambda: os.setuid(0))
attempt("device", lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(254, 0)))
attempt("bpf", lambda: call(321, 0, 0, 0))
attempt("keyring", lambda: call(250, 0, -3, 0))
attempt("performance", lambda: call(298, 0, 0, -1, -1, 0))
attempt("ring", lambda: call(425, 1, 0))
attempt("module", lambda: call(175, 0, 0, 0))
attempt("handle", lambda: call(304, -100, 0, 0))
attempt("hostname", lambda: socket.sethostname("x"))
attempt("sysctl", lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("namespaces", lambda: open("/proc/sys/user/max_user_namespaces", "w"))
attempt("oom", lambda: open("/proc/self/oom_score_adj", "w"))
attempt("sysrq", lambda: open("/proc/sysrq-trigger", "w"))
attempt("nice", lambda: os.nice(-10))
""",
    )
    assert "done" not in found.values(), found
    assert len(found) == 20
    said = box.says("cp /bin/bash own; chmod u+s own; ./own -p -c id; su -c id; sudo -n id")
    assert "uid=0" not in said
    status = box.says("grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status").split()
    assert status[1::2] == ["0" * 16] * 4 + ["1"]


def test_limits_cannot_be_raised(box: Box) -> None:
    assert "cannot modify" in box.says("ulimit -u 100000")
    assert "cannot modify" in box.says("ulimit -f unlimited")


@pytest.mark.parametrize("bomb", [":(){ :|:& };:", "(:(){ :|:& };: &) ; sleep 0.5; echo over"])
def test_a_fork_bomb_ends_with_its_command(box: Box, bomb: str) -> None:
    box.sh(bomb, seconds=3)
    started = time.monotonic()
    assert box.says("echo alive | cat") == "alive"
    assert time.monotonic() - started < 2


def test_a_bomb_that_grows_later_does_not_stop_the_next_command(box: Box) -> None:
    box.sh("(sleep 0.3; for i in $(seq 600); do sleep 987 & done) >/dev/null 2>&1 &")
    box.sh("sleep 1.5")
    started = time.monotonic()
    assert box.says("echo alive | cat") == "alive"
    assert time.monotonic() - started < 2


GREEDY = "b = []\nwhile True: b.append(bytearray(1 << 20))"


@pytest.mark.parametrize(
    "script",
    [
        f'python3 -c "{GREEDY}"',
        f'for i in 1 2 3 4 5 6 7 8; do python3 -c "{GREEDY}" & done; wait',
        f'setsid python3 -c "{GREEDY}" & sleep 15',
    ],
)
def test_a_memory_bomb_is_ended_and_named(box: Box, script: str) -> None:
    ran = box.sh(script, seconds=20)
    assert (ran.out_of_memory, ran.timed_out) == (True, False)
    assert ran.status == 137
    after = box.sh("echo alive")
    assert (after.head, after.out_of_memory) == (b"alive\n", False)


def test_a_full_disk_hurts_nobody_else(box: Box, provider: Provider) -> None:
    other = box.wait(provider.open("neighbour", 1, SMALL))
    for place in (".", "/tmp", "/dev/shm"):
        assert "No space left" in box.says(f"dd if=/dev/zero of={place}/big bs=1M")
        assert box.wait(other.exec(["touch", "x"], timeout_seconds=5)).status == 0
        assert box.sh(f"rm {place}/big && echo fine > {place}/new").status == 0
    box.wait(other.close())


def test_more_files_than_the_disk_holds_are_refused_cleanly(box: Box) -> None:
    script = "import os\nfor n in range(10**6): os.close(os.open(f'/tmp/{n}', os.O_CREAT))"
    ran = box.sh(f'python3 -c "{script}"')
    if box.provider.kind == "kubernetes":
        assert ran.out_of_memory, "no disk there has a bound of files"
    else:
        assert b"No space left" in ran.tail + ran.head
    assert box.sh("find /tmp -mindepth 1 -delete; echo fine > /tmp/new").status == 0


def test_files_of_holes_do_not_fill_the_brain_s_disk(box: Box, tmp_path: Path) -> None:
    box.sh("for i in $(seq 40); do truncate -s 60M hole$i; done")
    with pytest.raises(FileRefused, match="larger"):
        box.pull(tmp_path / "out")
    assert box.says("truncate -s 1T huge || echo refused").endswith("refused")


def test_a_name_that_leads_too_deep_is_refused(box: Box, tmp_path: Path) -> None:
    script = "import os\nfor n in range(300): os.mkdir('d'); os.chdir('d')"
    box.sh(f'python3 -c "{script}"')
    with pytest.raises(FileRefused):
        box.pull(tmp_path / "out")
    assert box.says("echo alive") == "alive"


def test_links_that_change_under_our_hands_lead_nowhere(box: Box, tmp_path: Path) -> None:
    """A folder that is, in turns, a folder and a link to the outside."""
    box.sh(
        "mkdir -p real /tmp/outside; echo inside > real/file; echo outside > /tmp/outside/file;"
        " cp -r real folder; ln -s /tmp/outside link"
    )
    flip = """
import ctypes, os
libc = ctypes.CDLL(None)
while True:
    libc.renameat2(-100, b"folder", -100, b"link", 2)
"""
    box.write("flip.py", flip.encode())
    box.sh("python3 flip.py >/dev/null 2>&1 &")
    seen = set()
    for _ in range(60):
        with contextlib.suppress(FileRefused):
            seen.add(box.read("folder/file"))
        with contextlib.suppress(FileRefused):
            box.write("folder/file", b"inside\n")
    assert seen == {b"inside\n"}
    assert box.says("cat /tmp/outside/file") == "outside"
    found = entries(box.pull(tmp_path / "out"))
    assert {kind for kind, _, _ in found.values()} <= {"file", "folder", "link"}
    assert not (tmp_path / "outside").exists()


def test_a_hostile_process_cannot_stop_the_others_for_good(box: Box) -> None:
    box.sh("(while :; do kill -STOP -1; kill -9 -1; done) >/dev/null 2>&1 &")
    box.wait(box.sandbox.kill_all())
    assert box.says("echo alive") == "alive"


def test_nothing_hostile_in_output_reaches_anything_but_the_bytes(box: Box) -> None:
    ran = box.sh("head -c 300000 /dev/urandom; printf 'X\\0\\0\\0\\1\\0\\0\\0\\2{}'; exit 3")
    assert (ran.status, ran.output_bytes) == (3, 300_011)
    assert box.says("echo alive") == "alive"


def test_output_that_never_ends_is_bounded_by_time(box: Box) -> None:
    ran = box.sh("yes", seconds=0.5)
    assert ran.timed_out
    assert ran.output_bytes > len(ran.head) + len(ran.tail)
    left = box.sh("yes & yes & echo started")
    assert not left.timed_out
    assert box.says("echo alive") == "alive"


def test_commands_side_by_side_wait_for_each_other(box: Box) -> None:
    async def both() -> list[int]:
        commands = [
            box.sandbox.exec(
                ["sh", "-c", "mkdir busy && sleep 0.2 && rmdir busy"], timeout_seconds=9
            )
            for _ in range(3)
        ]
        return [ran.status for ran in await asyncio.gather(*commands)]

    assert box.wait(both()) == [0, 0, 0]
