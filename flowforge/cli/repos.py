"""`flowforge repo`: access to private repositories of agent jobs, tried before it is saved."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue

from flowforge import terminal
from flowforge.cli import saved, systems
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.terminal import JsonFlag, ProfileOption

if TYPE_CHECKING:
    from flowforge.engines.agent.sources_check import Newest

Name = Annotated[str, typer.Argument(help="what jobs call it, for example `forge`")]
Url = Annotated[str | None, typer.Option("--url", help="a repository it opens")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="file with the token; else it is asked for")
]
User = Annotated[str | None, typer.Option("--user", help="who the token belongs to")]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", help="file with a private key for SSH, in its place")
]
KnownHosts = Annotated[
    Path | None, typer.Option("--known-hosts", help="file with the host keys you have checked")
]
NoTest = Annotated[bool, typer.Option("--no-test", help="save it without trying it first")]

group = typer.Typer(help="Access to private repositories, by name.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `repo` to the command."""
    group.command("add", context_settings=systems.TAKES_MORE)(add_repo)
    systems.add_list(group, "repo")
    systems.add_verbs(group, "repo")
    app.add_typer(group, name="repo")


def add_repo(
    context: typer.Context,
    name: Name,
    url: Url = None,
    token_file: TokenFile = None,
    user: User = None,
    key_file: KeyFile = None,
    known_hosts: KnownHosts = None,
    no_test: NoTest = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Save a token or a key; it is read from a file, a prompt or stdin."""
    _check_words(name, url, context.args)
    if url is None and not no_test:
        raise Refused(
            "It is not said which repository it opens, so it cannot be tried.",
            hint="Add --url URL, one of its repositories, or --no-test.",
        )
    fields = {"url": url} if url else {}
    if key_file is None:
        fields |= _token(name, token_file, user, known_hosts)
    else:
        fields |= _key(key_file, token_file, user, known_hosts)
    newest = None if no_test else _try(name, fields)
    value: dict[str, JsonValue] = {**fields}
    action = saved.save("repo", name, value, profile)
    _print(name, action, newest, json)


def _check_words(name: str, url: str | None, more: list[str]) -> None:
    if more:
        raise Refused(
            "A word too many was given, and a token on the command line is seen by others.",
            hint=f"Give it on standard input: `flowforge repo add {names.check_system_name(name)} "
            "--url URL < FILE`. One that was typed here is to be replaced.",
        )
    names.check_system_name(name, kind="repo")
    if url is not None and names.looks_like_secret(url):
        raise Refused(
            "An address with a password does not belong on a command line.",
            hint="Leave it out of --url; the token is asked for. One that was typed here is to be "
            "replaced.",
        )


def _token(
    name: str, file: Path | None, user: str | None, known_hosts: Path | None
) -> dict[str, str]:
    if known_hosts is not None:
        raise Refused("Host keys belong to a key for SSH.", hint="Add --key-file FILE.")
    if file is not None:
        token = _read(file)
    elif sys.stdin.isatty():
        token = getpass.getpass(f"Token of {name} (not shown): ")
    else:
        token = sys.stdin.read()
    if len(token.split()) != 1:
        raise Refused(
            "That is no token: it is empty, or has a space or a line's end in it.",
            hint=f"Pipe it in: `printenv THE_TOKEN | flowforge repo add {name} --url URL`.",
        )
    return {"token": token.strip()} | ({"username": user} if user else {})


def _key(
    file: Path, token_file: Path | None, user: str | None, known_hosts: Path | None
) -> dict[str, str]:
    if token_file is not None or user is not None:
        raise Refused(
            "Both a token and a key were given.",
            hint="Give either --key-file and --known-hosts, or a token and its --user.",
        )
    if known_hosts is None:
        raise Refused(
            "It is not said which hosts the key is for.",
            hint="Write `ssh-keyscan HOST > FILE`, compare its fingerprint with what the host "
            "publishes, and add --known-hosts FILE.",
        )
    return {"private_key": _read(file), "known_hosts": _read(known_hosts)}


def _read(file: Path) -> str:
    try:
        text = file.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"{file} cannot be read.", hint="Name a file of text that is readable for you."
        ) from error
    if not text.strip():
        raise Refused(f"{file} is empty.", hint="Name the file that holds it.")
    return text


def _try(name: str, fields: dict[str, str]) -> Newest:
    """Ask the repository before the access is saved."""
    from flowforge.engines.agent.sources_access import KeyAccess, TokenAccess
    from flowforge.engines.agent.sources_check import try_access

    if "private_key" in fields:
        return try_access(
            name, fields["url"], KeyAccess(fields["private_key"], fields["known_hosts"])
        )
    user = {"username": fields["username"]} if "username" in fields else {}
    return try_access(name, fields["url"], TokenAccess(fields["token"], **user))


def _print(name: str, action: str, newest: Newest | None, as_json: bool) -> None:
    found = {"branch": newest and newest.branch, "commit": newest and newest.commit}
    if as_json:
        terminal.print_json({"kind": "repo", "name": name, "action": action, **found})
        return
    terminal.print_facts({"saved": f"{name} ({action})", **found})
    terminal.out.print(
        f'\nUse it:\n  flowforge job run "..." --repo URL --access {name}', markup=False
    )
