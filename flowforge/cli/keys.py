"""`flowforge key add`, `backup rewrap` and `backup keys`: what opens sealed copies."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from flowforge import terminal
from flowforge.cli import backups, following, saved
from flowforge.cli.backups import StoreOption
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.recipients import Recipient
from flowforge.terminal import JsonFlag, ProfileOption

KEYS = "recovery-keys/on-demand"

Name = Annotated[str, typer.Argument(help="what to call it, for example `drills`")]
StoreName = Annotated[str, typer.Argument(help="name of the store")]


def register(app: typer.Typer) -> None:
    """Add the commands to `backup`."""
    backups.group.command("rewrap")(rewrap)
    backups.group.command("keys")(list_recipients)


def add_key(
    context: typer.Context, name: Name, json: JsonFlag = False, profile: ProfileOption = None
) -> None:
    """Save a key that opens sealed copies, read from standard input."""
    from flowforge.engines.backup.seals import recovery

    names.check_system_name(name, kind="key")
    if context.args:
        raise Refused(
            "A word too many was given, and a key on the command line is seen by others.",
            hint=f"Give the key on standard input: `flowforge key add {name} < FILE`. One that was "
            "typed here is to be replaced: `age-keygen`, then `flowforge backup rewrap STORE`.",
        )
    secret = SecretStr(
        getpass.getpass(f"Secret key of {name} (not shown): ")
        if sys.stdin.isatty()
        else sys.stdin.read()
    )
    public = recovery.public_key(secret)
    action = saved.save("key", name, {"key": secret.get_secret_value()}, profile)
    if json:
        terminal.print_json({"kind": "key", "name": name, "action": action, "public_key": public})
        return
    terminal.print_facts({"saved": f"{name} ({action})", "public key": public})
    terminal.out.print(
        "\nWorkers can now open copies sealed to it. Keep another recipient's key offline."
    )


def rewrap(store: StoreName, json: JsonFlag = False, profile: ProfileOption = None) -> None:
    """Wrap the keys of sealed copies to today's recipients."""
    _run("rewrap", names.check_system_name(store, kind="store"), json, profile)


def list_recipients(
    store: StoreOption = None, json: JsonFlag = False, profile: ProfileOption = None
) -> None:
    """Show whom copies are sealed to, and which key may go."""
    _run("report", names.check_system_name(store, kind="store") if store else None, json, profile)


def _run(action: str, store: str | None, json: bool, profile: str | None) -> None:
    parameters = {"action": action} | ({"store": store} if store else {})
    run, operation = following.run_to_end(profile, KEYS, **parameters)
    if not json:
        found: Any = operation.facts.get("recipients", [])
        rows = [Recipient.model_validate(one).row() for one in found]
        if rows:
            terminal.print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    following.print_evidence(run, operation, json)
