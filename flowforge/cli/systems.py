"""`flowforge database`, `store`, `key`, `notify`: name a system once; no run holds a secret."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer
from pydantic import JsonValue

from flowforge import terminal
from flowforge.cli import saved
from flowforge.cli.keys import add_key
from flowforge.cli.stores import add_store
from flowforge.errors import Refused, Unavailable
from flowforge.rules import addresses, names
from flowforge.terminal import JsonFlag, ProfileOption

Name = Annotated[str, typer.Argument(help="what to call it, for example `shop`")]
UrlEnv = Annotated[
    str | None, typer.Option("--url-env", help="environment variable that holds the URL")
]
NoTest = Annotated[bool, typer.Option("--no-test", help="save it without trying it first")]
Sender = Annotated[str | None, typer.Option("--from", help="address mails come from")]
Recipients = Annotated[
    list[str] | None, typer.Option("--to", help="address mails go to; may be repeated")
]
Account = Annotated[str | None, typer.Option("--user", help="account on the mail server")]
PasswordEnv = Annotated[
    str | None, typer.Option("--password-env", help="variable with that account's password")
]
# A word too many is let through, only to say no without the parser repeating it.
TAKES_MORE = {"allow_extra_args": True}
_NOT_FACTS = frozenset({"schema", "kind", "ok", "problems"})


def register(app: typer.Typer) -> None:
    """Add `database`, `store`, `key` and `notify` to the command."""
    for word, kind, add, text in (
        ("database", "server", add_database, "PostgreSQL servers, by name."),
        ("store", "store", add_store, "Places that keep copies, by name."),
        ("key", "key", add_key, "Keys that open sealed copies, by name."),
        ("notify", "pager", add_pager, "Channels that people are told through, by name."),
    ):
        group = typer.Typer(help=text, no_args_is_help=True)
        group.command("add", context_settings=TAKES_MORE)(add)
        add_list(group, kind)
        add_verbs(group, kind)
        app.add_typer(group, name=word)


def add_database(
    context: typer.Context,
    name: Name,
    url_env: UrlEnv = None,
    no_test: NoTest = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Save a server; its URL is asked for, or read from standard input."""
    check_name(name, "server", context.args, "database")
    url = read_secret(url_env, f"PostgreSQL URL of {name} (not shown): ", "database", name)
    address = addresses.parse_postgres_url(url, name=name)
    found = {} if no_test else _try_database(address)
    action = saved.save("server", name, url, profile)
    if json:
        terminal.print_json({"kind": "server", "name": name, "action": action, **found})
        return
    terminal.print_facts(
        {
            "saved": f"{name} ({action})",
            "where": f"{address.where}/{address.database}",
            "version": found.get("version"),
            "size": terminal.show_bytes(int(found["size_bytes"])) if found else None,
            "tools": found.get("tools"),
        }
    )
    terminal.out.print(f"\nBack it up:\n  flowforge backup run {name}", markup=False)


def add_pager(
    context: typer.Context,
    name: Name,
    webhook: Annotated[bool, typer.Option("--webhook", help="JSON to a URL")] = False,
    slack: Annotated[bool, typer.Option("--slack", help="a Slack-shaped URL")] = False,
    smtp: Annotated[str | None, typer.Option("--smtp", help="mail server, HOST:PORT")] = None,
    sender: Sender = None,
    to: Recipients = None,
    user: Account = None,
    password_env: PasswordEnv = None,
    url_env: UrlEnv = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Save a channel; a URL is asked for, or read from standard input."""
    check_name(name, "pager", context.args, "notify")
    if [webhook, slack, smtp is not None].count(True) != 1:
        raise Refused(
            "It is not said what kind of channel this is.",
            hint="Give exactly one of --webhook, --slack and --smtp HOST:PORT.",
        )
    if smtp is not None:
        value = _mailbox(smtp, sender, to or [], user, password_env)
    else:
        url = read_secret(url_env, f"URL of {name} (not shown): ", "notify", name)
        value = {"kind": "slack" if slack else "webhook", "url": url}
    print_saved("pager", name, saved.save("pager", name, value, profile), "", json)


def add_list(group: typer.Typer, kind: str) -> None:
    """Give a group the verb that shows where each of its systems is."""

    @group.command("list")
    def list_systems(json: JsonFlag = False, profile: ProfileOption = None) -> None:
        """List what is saved; never a secret."""
        found = saved.list_saved(kind, profile)
        if json:
            terminal.print_json({f"{kind}s": list(found)})
            return
        if not found:
            terminal.out.print("None is saved.")
            return
        terminal.print_table(("name", "where"), [(one["name"], one["where"]) for one in found])


def add_verbs(group: typer.Typer, kind: str) -> None:
    """Give a group the verbs that all kinds of systems have: test, remove."""

    @group.command("test")
    def test_system(name: Name, json: JsonFlag = False, profile: ProfileOption = None) -> None:
        """Try it for real, from this machine."""
        answer = saved.ask(["test", kind, names.check_system_name(name, kind=kind)], profile)
        is_fine = not answer["problems"]
        if json:
            terminal.print_json({**answer, "ok": is_fine})
        else:
            _print_tested(answer)
        if not is_fine:
            raise typer.Exit(1)

    @group.command("remove")
    def remove_system(name: Name, json: JsonFlag = False, profile: ProfileOption = None) -> None:
        """Forget the name; what it stands for is not touched."""
        saved.ask(["remove", kind, names.check_system_name(name, kind=kind)], profile)
        if json:
            terminal.print_json({"kind": kind, "name": name, "action": "removed"})
            return
        terminal.out.print(f"{name} is forgotten; the {kind} itself was not touched.", markup=False)


def _print_tested(answer: Mapping[str, Any]) -> None:
    """Print what a try found out, and what would be in the way of an operation."""
    facts = {name: value for name, value in answer.items() if name not in _NOT_FACTS}
    terminal.print_facts(dict(_show_fact(name, value) for name, value in facts.items()))
    for problem in answer["problems"]:
        terminal.out.print(f"problem: {terminal.show(problem)}", markup=False)


def check_name(name: str, kind: str, more: list[str], word: str) -> None:
    """Make sure that a name was typed, and nothing besides.

    Raises:
        Refused: It is none, or an address was typed.
    """
    if more or names.looks_like_secret(name):
        _refuse_argument(word)
    names.check_system_name(name, kind=kind)


def _refuse_argument(word: str) -> NoReturn:
    raise Refused(
        "An address was given on the command line, where others on this machine can read it.",
        hint=f"Type `flowforge {word} add NAME` and give the URL when asked, or on standard input; "
        "change a password that was shown this way.",
    )


def read_secret(variable: str | None, prompt: str, word: str, name: str) -> str:
    """Read a URL from a variable, from a person, or from standard input.

    Raises:
        Refused: There is none.
    """
    if variable is not None:
        secret = os.environ.get(variable, "")
    elif sys.stdin.isatty():
        secret = getpass.getpass(prompt)
    else:
        secret = sys.stdin.read()
    if not secret.strip():
        raise Refused(
            f"The environment variable {variable} is empty." if variable else "No URL was given.",
            hint=f"Pipe it in: `printenv THE_URL | flowforge {word} add {name}`.",
        )
    return secret.strip()


def _try_database(address: addresses.PostgresAddress) -> dict[str, str]:
    """Enter a server before its name is saved, and say what it is."""
    from flowforge.engines.postgres import connection, installations

    with connection.connect(address) as session:
        major = session.info.server_version // 10000
        row = session.execute(
            "SELECT current_setting('server_version'), "
            "pg_catalog.pg_database_size(current_database())"
        ).fetchone()
    if row is None:
        raise Unavailable(f"{address.name} said nothing.", hint="Check that it is PostgreSQL.")
    version, size_bytes = row
    tools = installations.for_server(major)
    return {
        "version": version,
        "size_bytes": str(size_bytes),
        "tools": f"{tools.version} ({tools.source})",
    }


def _mailbox(
    smtp: str, sender: str | None, to: list[str], user: str | None, password_env: str | None
) -> dict[str, JsonValue]:
    host, _, port = smtp.rpartition(":")
    if not host or not port.isdigit():
        raise Refused("The mail server cannot be read.", hint="Give it as --smtp HOST:PORT.")
    if sender is None or not to:
        raise Refused("A mail needs two addresses.", hint="Add --from ADDRESS and --to ADDRESS.")
    value: dict[str, JsonValue] = {
        "kind": "smtp",
        "host": host.strip("[]"),
        "port": int(port),
        "sender": sender,
        "recipients": list(to),
    }
    if user is not None:
        value["user"] = user
    if password_env is not None:
        value["password"] = read_secret(password_env, "", "notify", "NAME")
    return value


def print_saved(kind: str, name: str, action: str, where: str, as_json: bool) -> None:
    """Print that a system was saved."""
    if as_json:
        terminal.print_json({"kind": kind, "name": name, "action": action})
        return
    terminal.print_facts({"saved": f"{name} ({action})", "where": where})


def _show_fact(name: str, value: JsonValue) -> tuple[str, str]:
    """A fact as people say it: `size_bytes` is a size, `is_replica` is yes or no."""
    if name.endswith("_bytes") and isinstance(value, int):
        return name.removesuffix("_bytes"), terminal.show_bytes(value)
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    return name.removeprefix("is_").replace("_", " "), shown
