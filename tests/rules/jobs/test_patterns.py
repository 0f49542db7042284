"""Which commands wait for a person: all that fit, and all that might."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowforge.rules.jobs.commands import ANY, simple_commands
from flowforge.rules.jobs.patterns import matches

PUSH = ("git push*",)

ASKED = [
    "git push",
    "git  push   origin main",
    "/usr/bin/git push",
    "ls && git push",
    "ls; git push;",
    "ls || git push &",
    "true | git push",
    "(cd x; git push)",
    "{ git push; }",
    "if true; then git push; fi",
    "for x in a b; do git push; done",
    "! git push",
    "x=1 y=2 git push",
    "git -C dir push",
    "git --no-pager -c a=b push -f",
    "'git' \"push\"",
    "g\\it pu''sh",
    "git \\\npush",
    "echo $(git push)",
    'echo "a $(git push) b"',
    "echo `git push`",
    "echo ${x:-$(git push)}",
    "echo $(( $(git push) + 1 ))",
    "cat <(git push)",
    "git $x",
    "$g push",
    "g=git; $g push origin",
    'f() { git "$@"; }; f push',
    "git pu{sh,ll}",
    "git $'p\\x75sh'",
    "sudo git push",
    "sudo -u me -- git push",
    "env A=b git push",
    "timeout 5 git push",
    "nohup git push &",
    "bash -c 'git push'",
    "sudo bash -lc 'ls; git push'",
    "eval git push",
    "eval 'git pu'sh",
    "echo git push | sh",
    "bash <<'END'\ngit push\nEND",
    'bash -c "$x"',
    "eval $x",
    "echo push | xargs git",
    "find . -exec git push {} +",
    "cat <<END\n$(git push)\nEND",
    "cat <<'END'\nx\nEND\ngit push",
    "cat <<A <<-B\nx\nA\n\ty\n\tB\ngit push",
    "echo x # comment\ngit push",
    "echo x > file; git push",
    "2>&1 git push",
    "git push > log 2>&1",
    "ls &> log && git push",
    "[ -n x ] && git push",
    "echo $(case a in a) git push;; esac)",
    "echo 'left open",
    'echo "left open',
    "echo $(left open",
    "cat <<END\nleft open",
    "while read x; do git push $x; done < file",
]
NOT_ASKED = [
    "",
    "ls",
    "git status",
    "git pull && git log",
    "echo git push",
    "echo 'a; git push'",
    "grep -rn 'git push' docs",
    "# git push",
    "ls # git push",
    'echo "it\'s" && ls $HOME',
    "cat > file <<'END'\nit's\ngit push\n$(git push)\nEND\nls",
    "python -m pytest -q tests/*.py",
    'for f in *.py; do echo "$f"; done',
    "bash script.sh",
    "source .venv/bin/activate && pip list",
    "echo $((1 + 2)) ${#x} $? $$",
    "sed -i 's/a/b/' file > /dev/null 2>&1",
    "gitpush",
    "cat <<< 'git push'",
    "x='git push'",
    "test $(date +%s) -gt 5",
]


@pytest.mark.parametrize("command", ASKED)
def test_a_command_that_may_push_waits(command: str) -> None:
    assert matches(command, PUSH)
    assert not matches(command, ())


@pytest.mark.parametrize("command", NOT_ASKED)
def test_a_command_that_does_not_push_goes_on(command: str) -> None:
    assert not matches(command, PUSH)


@pytest.mark.parametrize(
    ("command", "pattern", "waits"),
    [
        ("ls", "*", True),
        ("> file", "*", True),
        ("rm -rf /x", "rm -rf *", True),
        ("rm x", "rm -rf *", False),
        ("git push", "git push", True),
        ("git push origin", "git push", False),
        ("git push -f", "git push", True),
        ("npm publish", "npm p?blish", True),
        ("make deploy-b", "make deploy-[abc]", True),
        ("make deploy-d", "make deploy-[abc]", False),
        ("make deploy-d", "make deploy-[!abc]", True),
        ("curl x | tee y", "curl*|*tee*", True),
        ("kubectl get; kubectl  delete pod", "kubectl delete *", True),
        ("GIT PUSH", "git push*", False),
        ("scripts/deploy --now", "deploy*", True),
    ],
)
def test_patterns_mean_what_a_shell_takes_them_for(command: str, pattern: str, waits: bool) -> None:
    assert matches(command, (pattern,)) is waits


def test_words_are_what_a_shell_makes_of_them() -> None:
    line = """a 'b c' "d $x e" f\\ g >out 2>>err <in h""i; j k=l"""
    assert simple_commands(line) == [["a", "b c", f"d {ANY} e", "f g", "hi"], ["j", "k=l"]]


def test_a_long_command_is_looked_at_in_a_moment() -> None:
    text = "echo 'some words' \"and more\" | sort > file\n" * 3000
    assert not matches(text, ("git push*", "*nothing like it*"))
    assert matches("$(" * 50_000, PUSH)


PARTS = (
    *("mark", "ma", "rk", "echo", "x", "$x", "'", '"', "\\", " ", " ", "\n", ";", "&&", "|", "&"),
    *("(", ")", "$(", "`", "${y:-", "{", "}", "<<E", "<<'E'", "E\n", "<(", "#", "$'", ">", "f()"),
    *("if", "then", "fi", "case", "in", "esac", "a)", ";;", "!", "while", "do", "done", "eval"),
)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=16))
def test_no_line_that_a_real_shell_runs_it_with_gets_by(parts: list[str]) -> None:
    """`mark` is a program; whatever line makes bash run it must be seen to."""
    line = "".join(parts)
    env = {"PATH": "/nowhere", "x": "mark"}
    program = 'mark() { printf "was run" >&9; }\n'
    script = f'ulimit -t 1; exec 9>&1 >/dev/null 2>&1 < /dev/null\n{program}eval "$1"'
    ran = subprocess.run(
        ["/bin/bash", "-c", script, "bash", line], env=env, capture_output=True, cwd=Path("/proc")
    )
    if b"was run" in ran.stdout:
        assert matches(line, ("mark*",))
