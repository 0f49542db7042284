"""What every sandbox does for a job that means well."""

from __future__ import annotations

import asyncio
import io
import os
import time
from pathlib import Path

import psutil
import pytest

from flowforge.engines.sandboxes.sandbox import (
    HEAD_BYTES,
    SPOOL_BYTES,
    TAIL_BYTES,
    FileRefused,
    Provider,
    SandboxLost,
)
from tests.engines.sandboxes.box import SMALL, Box, entries


def test_a_command_gives_its_output_and_status(box: Box) -> None:
    ran = box.sh("echo out; echo err >&2; exit 7")
    assert (ran.status, ran.head, ran.tail, ran.output_bytes) == (7, b"out\nerr\n", b"", 8)
    assert not (ran.timed_out or ran.out_of_memory)


def test_arguments_are_a_list_and_no_shell_looks_at_them(box: Box) -> None:
    argv = ["printf", "%s|", "a b", "$HOME", "*", "-rf", ""]
    assert box.wait(box.sandbox.exec(argv, timeout_seconds=5)).head == b"a b|$HOME|*|-rf||"


def test_a_program_that_is_not_there_is_a_failed_command(box: Box) -> None:
    ran = box.wait(box.sandbox.exec(["no-such-program"], timeout_seconds=5))
    assert (ran.status, ran.head) == (127, b"no-such-program: No such file or directory\n")


def test_input_folder_and_variables_reach_a_command(box: Box) -> None:
    box.sh("mkdir -p a/b")
    ran = box.sh("cat; pwd; echo $WORD", input=b"in\n" * 200_000, cwd="a/b", env={"WORD": "x"})
    assert ran.output_bytes == 600_000 + len(f"{box.sandbox.workspace}/a/b\nx\n")
    assert ran.tail.endswith(f"{box.sandbox.workspace}/a/b\nx\n".encode())


def test_input_nobody_reads_holds_nothing_up(box: Box) -> None:
    ran = box.sh("exec 0<&-; echo done", input=b"x" * 3_000_000)
    assert (ran.status, ran.head) == (0, b"done\n")


def test_a_command_cannot_start_outside_the_workspace(box: Box) -> None:
    assert box.sh("pwd", cwd="../tmp").status == 126
    box.sh("ln -s /tmp out")
    assert box.sh("pwd", cwd="out").status == 126


def test_the_signal_that_ended_a_command_is_told_as_a_shell_does(box: Box) -> None:
    assert box.sh("kill -SEGV $$").status == 128 + 11


def test_long_output_keeps_its_head_and_tail_and_goes_whole_to_a_file(box: Box) -> None:
    with io.BytesIO() as spool:
        ran = box.sh("seq 1 300000", spool=spool)
        whole = b"".join(b"%d\n" % number for number in range(1, 300_001))
        assert spool.getvalue() == whole
    assert (ran.head, ran.tail) == (whole[:HEAD_BYTES], whole[-TAIL_BYTES:])
    assert ran.output_bytes == len(whole)


def test_output_of_any_size_costs_the_brain_no_memory(box: Box, tmp_path: Path) -> None:
    box.sh("true")
    process = psutil.Process()
    before = process.memory_info().rss
    with (tmp_path / "spool").open("wb") as spool:
        ran = box.sh("head -c 80000000 /dev/zero", spool=spool)
    assert ran.output_bytes == 80_000_000
    assert (tmp_path / "spool").stat().st_size == SPOOL_BYTES
    assert process.memory_info().rss - before < 5_000_000


def test_what_outlives_a_command_is_not_waited_for_and_keeps_running(box: Box) -> None:
    started = time.monotonic()
    ran = box.sh("(while :; do echo tick; sleep 0.02; done) & echo $! > pid; echo started")
    assert time.monotonic() - started < 5
    assert ran.head.startswith((b"started\n", b"tick\n"))
    assert box.sh("sleep 0.1; kill $(cat pid)").status == 0


def test_a_timeout_ends_all_there_is_and_keeps_what_was_said(box: Box) -> None:
    ran = box.sh("echo said; setsid sleep 987 & sh -c 'setsid sleep 987 & sleep 987'", 0.5)
    assert (ran.timed_out, ran.head) == (True, b"said\n")
    assert ran.seconds < 5
    assert "sleep" not in box.says("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; true ")


def test_cancelling_ends_all_there_is_at_once(box: Box) -> None:
    async def cancel() -> float:
        script = "setsid sleep 987 & echo x > started; sleep 987"
        command = asyncio.create_task(box.sandbox.exec(["bash", "-c", script], timeout_seconds=60))
        while True:
            try:
                await box.sandbox.read_file("started", max_bytes=10)
                break
            except FileRefused:
                continue
        started = time.monotonic()
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command
        return time.monotonic() - started

    assert box.wait(cancel()) < 1
    assert "sleep" not in box.says("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; true ")


def test_everything_can_be_ended_and_commands_go_on(box: Box) -> None:
    box.sh("setsid sleep 987 & sleep 987 &")
    box.wait(box.sandbox.kill_all())
    assert box.says("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").count("sleep") == 0
    assert box.wait(box.sandbox.health()) == "ok"


def test_bytes_that_are_no_text_come_as_they_are(box: Box) -> None:
    ran = box.sh(r"printf 'a\0b\377\033[2J\r'")
    assert ran.head == b"a\0b\xff\x1b[2J\r"


@pytest.mark.parametrize(
    "path",
    ["plain.txt", "deep/er/ünïcødé 你好.txt", "-rf", "a b\n'\"$(x)", "🙂/‮rtl"],
)
def test_a_file_is_written_and_read_byte_for_byte(box: Box, path: str) -> None:
    content = b"\0\xff\r\n" * 100_000 + "ohne Zeilenende ü".encode()
    box.write(path, content)
    assert box.read(path) == content
    box.write(path, b"short")
    assert box.read(path) == b"short"


def test_writing_keeps_the_mode_of_a_file(box: Box) -> None:
    box.sh("echo one > tool; chmod 750 tool")
    box.write("tool", b"two")
    assert box.says("stat -c %a tool; cat tool") == "750\ntwo"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../x", "outside"),
        ("/etc/hosts", "outside"),
        ("a/../../x", "outside"),
        ("folder", "is a folder"),
        ("missing", "not there"),
        ("large", "no more than"),
        ("pipe", "not a regular file"),
        ("out", "outside"),
        ("loop", "circle"),
        ("folder/out/hosts", "outside"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(box: Box, path: str, why: str) -> None:
    box.sh(
        "mkdir -p a folder; head -c 2000 /dev/zero > large; mkfifo pipe; ln -s /etc/hosts out;"
        " ln -s loop loop; ln -s /etc folder/out"
    )
    with pytest.raises(FileRefused, match=why):
        box.read(path, most=1000)


@pytest.mark.parametrize("path", ["../x", "/tmp/x", "folder", "out", "folder/out/x", "pipe"])
def test_a_file_that_must_not_be_written_is_refused(box: Box, path: str) -> None:
    box.sh("mkdir folder; ln -s /tmp/x out; ln -s /tmp folder/out; mkfifo pipe")
    with pytest.raises(FileRefused):
        box.write(path, b"data")
    assert box.sh("test -e /tmp/x").status == 1


def test_a_link_inside_the_workspace_is_followed(box: Box) -> None:
    box.sh("echo one > file; ln -s file link")
    box.write("link", b"two")
    assert (box.read("link"), box.says("cat file; readlink link")) == (b"two", "twofile")


def test_a_full_disk_costs_nothing_that_was_there(box: Box) -> None:
    box.write("kept", b"precious")
    assert "No space left" in box.says("dd if=/dev/zero of=big bs=1M")
    with pytest.raises(FileRefused, match="no room"):
        box.write("kept", b"x" * 100_000)
    assert box.read("kept") == b"precious"
    assert box.sh("rm big; echo fine > new").status == 0


def test_a_workspace_comes_out_and_goes_in_again_equal(box: Box, tmp_path: Path) -> None:
    box.sh(
        "mkdir -p a/b empty secret; printf 'x\\r\\ny' > 'a/b/ünï 🙂'; ln -s ../../etc a/link;"
        " ln -s nowhere dangling; echo 1 > run; chmod 755 run; printf '\\0\\377' > bin;"
        " echo s > secret/x; chmod 000 secret/x; chmod 000 secret; chmod 444 bin"
    )
    out = box.pull(tmp_path / "out")
    found = entries(out)
    assert found["a/b/ünï 🙂"] == ("file", 0o644, b"x\r\ny")
    assert found["a/link"] == ("link", 0, b"../../etc")
    assert found["dangling"] == ("link", 0, b"nowhere")
    assert (found["run"][1], found["bin"]) == (0o755, ("file", 0o444, b"\0\xff"))
    assert found["empty"][0] == "folder"
    box.sh("rm -rf a run; echo other > a; mkdir run; echo y > run/y")
    box.push(out)
    assert entries(box.pull(tmp_path / "again")) == found


def test_pulling_replaces_what_was_in_the_folder(box: Box, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    outside = tmp_path / "outside"
    outside.mkdir()
    folder.mkdir()
    (folder / "old").write_text("old")
    (folder / "a").symlink_to(outside)
    box.sh("mkdir a; echo new > a/file")
    assert set(entries(box.pull(folder))) == {"a", "a/file"}
    assert list(outside.iterdir()) == []


def test_files_of_git_and_what_is_no_file_stay_where_they_are(box: Box, tmp_path: Path) -> None:
    box.sh("mkdir -p .git sub/.GIT; echo evil > .git/config; mkfifo pipe; echo x > file")
    folder = box.pull(tmp_path / "out")
    assert set(entries(folder)) == {"file", "sub"}
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ours")
    box.push(folder)
    assert box.says("cat .git/config; ls -A .git") == "evil\nconfig"
    box.pull(folder)
    assert (folder / ".git" / "HEAD").read_text() == "ours"


def test_closing_twice_is_fine_and_nothing_can_be_asked_then(box: Box) -> None:
    box.wait(box.sandbox.close())
    box.wait(box.sandbox.close())
    with pytest.raises(SandboxLost):
        box.sh("true")
    assert "closed" in box.wait(box.sandbox.health())


def test_open_sandboxes_are_listed_and_can_be_removed(box: Box) -> None:
    assert ("a-job", 1, box.sandbox.id) in box.wait(box.provider.list_open())
    box.wait(box.provider.remove(box.sandbox.id))
    box.wait(box.provider.remove(box.sandbox.id))
    assert box.sandbox.id not in [one for _, _, one in box.wait(box.provider.list_open())]
    with pytest.raises(SandboxLost):
        box.sh("true")
    assert box.wait(box.sandbox.health()) != "ok"


def test_a_command_in_a_removed_sandbox_is_lost_and_not_failed(box: Box) -> None:
    async def remove_meanwhile() -> None:
        command = asyncio.create_task(box.sandbox.exec(["sleep", "60"], timeout_seconds=60))
        await box.sandbox.write_file("x", b"")
        await box.provider.remove(box.sandbox.id)
        await command

    with pytest.raises(SandboxLost, match="lost"):
        box.wait(remove_meanwhile())


def test_two_sandboxes_see_nothing_of_each_other(box: Box, provider: Provider) -> None:
    other = box.wait(provider.open("other-job", 1, SMALL))
    try:
        box.sh("echo mine > file; echo mine > /tmp/file; sleep 987 &")
        script = "ls -A . /tmp | grep file; cat /proc/[0-9]*/comm | grep -c sleep"
        ran = box.wait(other.exec(["sh", "-c", script], timeout_seconds=5))
        assert ran.head == b"0\n"
    finally:
        box.wait(other.close())


def test_nothing_of_the_brain_s_environment_is_inside(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_BRAIN", "x")
    names = {line.partition("=")[0] for line in box.says("env").splitlines()}
    assert names <= {
        *("HOME", "TMPDIR", "USER", "LOGNAME", "LANG", "TERM", "GIT_CONFIG_NOSYSTEM", "PATH"),
        *("PWD", "SHLVL", "_"),
    }
    assert str(os.getpid()) not in names


def identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_ino, status.st_ctime_ns


def test_only_what_has_changed_comes_again(box: Box, tmp_path: Path) -> None:
    box.sh("mkdir a; echo one > a/one; echo two > two; ln -s two link; sleep 0.05")
    folder = box.pull(tmp_path / "out")
    before = {name: identity(folder / name) for name in ("a/one", "two", "link")}
    # Of the same size and time: only the kernel knows that it is another content.
    box.sh("touch -r two time; echo 222 > two; touch -r time two; rm time")
    box.pull(folder)
    after = {name: identity(folder / name) for name in before}
    assert (folder / "two").read_text() == "222\n"
    assert after["two"] != before["two"]
    assert (after["a/one"], after["link"]) == (before["a/one"], before["link"])


def test_what_somebody_else_changed_in_the_folder_comes_again(box: Box, tmp_path: Path) -> None:
    box.sh("mkdir a; echo one > a/one; echo two > two; ln -s two link; sleep 0.05")
    found = entries(box.pull(tmp_path / "out"))
    (tmp_path / "out/two").write_text("mine")
    (tmp_path / "out/a/one").unlink()
    (tmp_path / "out/a").rmdir()
    (tmp_path / "out/a").symlink_to(tmp_path)
    (tmp_path / "out/link").unlink()
    (tmp_path / "out/link").mkdir()
    (tmp_path / "out/more").write_text("more")
    assert entries(box.pull(tmp_path / "out")) == found
    assert (tmp_path / "out").is_dir()


def test_what_was_given_need_not_come_back(box: Box, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "a").mkdir(parents=True)
    (folder / "a/one").write_text("one")
    (folder / "two").write_text("two")
    before = identity(folder / "a/one")
    box.push(folder)
    box.sh("sleep 0.05; echo changed > two; chmod 755 a/one; chmod 644 a/one; echo new > new")
    box.push(folder)
    box.sh("sleep 0.05; echo changed > two; echo new > new")
    box.pull(folder)
    assert identity(folder / "a/one") == before
    assert {n: c for n, (_, _, c) in entries(folder).items()} == {
        "a": b"",
        "a/one": b"one",
        "new": b"new\n",
        "two": b"changed\n",
    }
