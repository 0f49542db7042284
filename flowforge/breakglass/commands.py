"""The words of break-glass: list, verify, restore, undo, backup."""

from __future__ import annotations

import shlex
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from flowforge import terminal
from flowforge.breakglass import choosing, hints, showing, sources
from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.proving import examining, proof
from flowforge.engines.backup.restoring import restore
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Busy, Damaged, FlowForgeError, Refused
from flowforge.rules import names, restores
from flowforge.rules.backups import Copy, Manifest, Proof, RunFacts
from flowforge.terminal import JsonFlag

StoreOption = Annotated[
    str, typer.Option("--store", envvar="FLOWFORGE_STORE", help="folder, or s3://BUCKET/PREFIX")
]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint-url", help="where an S3-alike listens, if it is not AWS")
]
Key = Annotated[
    Path | None,
    typer.Option("--key", help="age secret key, for sealed copies (FLOWFORGE_RECOVERY_KEY_FILE)"),
]
ServerOption = Annotated[
    str | None, typer.Option("--server", help="name of the server the copy was taken from")
]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="name of the database it was taken from")
]
CopyOption = Annotated[
    str,
    typer.Option("--copy", help="name of a copy, `latest`, or `latest-proven` (compared once, L3)"),
]
UrlEnv = Annotated[
    str | None,
    typer.Option(
        "--url-env",
        help="variable that holds postgresql://USER:PASSWORD@HOST:PORT/DATABASE of the server; "
        "by default the URL is asked for, or read from stdin",
    ),
]
As = Annotated[
    str | None, typer.Option("--as", help="name the database shall have; by default its own")
]
Once = Annotated[
    str | None,
    typer.Option(
        "--once",
        envvar="FLOWFORGE_ONCE",
        help="any words: what was restored with them is not restored with them again",
    ),
]

app = typer.Typer(
    name="breakglass",
    cls=hints.Words,
    help="List, verify and restore copies without any server.",
    epilog="In a hurry? `list`, then `restore --copy latest`. It shows its plan and asks; it "
    "compares the copy before it takes the live database's place, and keeps the live one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command("list")
def list_copies(
    store: StoreOption,
    endpoint_url: Endpoint = None,
    server: ServerOption = None,
    database: DatabaseOption = None,
    json: JsonFlag = False,
) -> None:
    """Show every copy the store holds, newest first."""
    copies = choosing.find_copies(sources.open_place(store, endpoint_url), server, database)
    if json:
        terminal.print_json({"copies": [copy.model_dump(mode="json") for copy in copies]})
        return
    if not copies:
        terminal.out.print("The store holds no copy of that.")
        return
    columns = ("server", "database", "copy", "age", "size", "rows", "level")
    terminal.print_table(columns, [showing.row(copy) for copy in copies])


@app.command("verify")
def verify(
    store: StoreOption,
    copy: CopyOption = choosing.LATEST,
    endpoint_url: Endpoint = None,
    key: Key = None,
    server: ServerOption = None,
    database: DatabaseOption = None,
    restored: Annotated[
        bool, typer.Option("--restore", help="restore it on a scratch server here and compare (L3)")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Read a copy back (L1); with --restore load it on a scratch server and compare it (L3)."""
    place = sources.open_place(store, endpoint_url, key)
    manifest = _find(_choose(place, server, database, copy), place)
    found = examining.read_back(place, manifest)
    if found.verdict == "proven" and restored:
        showing.say("Read back well; now it is restored on a scratch server here.")
        found = proof.prove_by_restoring(place, manifest)
    _record(place, manifest, found)
    showing.print_proof(manifest, found, json)
    if found.verdict == "failed":
        raise Damaged(
            f"{manifest.name} failed: {found.cause}.",
            hint="Choose another copy: `list` shows them.",
        )


@app.command("restore")
def restore_copy(
    store: StoreOption,
    copy: CopyOption = choosing.PROVEN,
    endpoint_url: Endpoint = None,
    key: Key = None,
    server: ServerOption = None,
    database: DatabaseOption = None,
    url_env: UrlEnv = None,
    named: As = None,
    plan: Annotated[
        str | None, typer.Option("--plan", help="hash of the plan you read; nothing is asked then")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="agree to whatever the plan is")] = False,
    once: Once = None,
    json: JsonFlag = False,
) -> None:
    """Bring a database back: show the plan, ask, load aside, compare, swap; keep the live one."""
    place = sources.open_place(store, endpoint_url, key)
    copies = choosing.find_copies(place, server, database)
    chosen = choosing.choose(copies, copy)
    target, name = sources.read_target(url_env), named or chosen.database
    order = restores.order_of(name, once) if once else None
    if order and (earlier := restore.find_done(target, name, order)):
        showing.print_done_before(earlier, _undo_words(earlier, url_env), json)
        return
    if copy == choosing.PROVEN:
        _name_newer(choosing.newer_than(copies, chosen))
    manifest = _find(chosen, place)
    made = restore.plan(place, manifest, chosen, target, name)
    made = made.model_copy(update={"order": order})
    agreed = made.digest if yes else plan
    if agreed is None:
        showing.print_plan(made)
        agreed = _ask(made)
    done = restore.apply(place, manifest, target, made, agreed, on_progress=showing.Progress())
    showing.print_restored(made, done, _undo_words(done, url_env), json)


@app.command("undo")
def undo_restore(
    restore_id: Annotated[str, typer.Argument(help="what `restore` printed")],
    named: Annotated[str, typer.Option("--as", help="the database that was restored")],
    url_env: UrlEnv = None,
    json: JsonFlag = False,
) -> None:
    """Take a restore back: the database that was live before it is live again."""
    done = restore.undo(sources.read_target(url_env), named, restore_id)
    if json:
        terminal.print_json({"database": done.database, "kept_as": done.kept_as})
        return
    terminal.print_facts({"live again": done.database, "the restored one": done.kept_as})


@app.command("backup")
def backup(
    store: StoreOption,
    server: Annotated[str, typer.Option("--server", help="name its copies are kept under")],
    database: DatabaseOption = None,
    endpoint_url: Endpoint = None,
    url_env: UrlEnv = None,
    if_older_than: Annotated[
        str | None,
        typer.Option("--if-older-than", help="do nothing while a copy is younger, such as 7h"),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Take a copy with plain `pg_dump` and read it back (L1), when no younger one is there."""
    span = sources.parse_span(if_older_than) if if_older_than else None
    place = sources.open_place(store, endpoint_url)
    address = sources.read_target(url_env).model_copy(
        update={"name": names.check_system_name(server)}
    )
    name = names.check_database_name(database or address.database)
    newest = choosing.newest_commit(place, server, name)
    if span and newest and datetime.now(UTC) - newest < span:
        showing.say_skipped(f"the newest copy is {terminal.show_age(newest)} old", json)
        return
    run = RunFacts(
        deployment="break-glass",
        host=socket.gethostname(),
        flowforge=dump.flowforge_version(),
    )
    try:
        manifest = dump.take_copy(address, name, place, run=run, engine="pg_dump")
    except Busy as busy:
        showing.say_skipped(busy.message, json)
        return
    found = examining.read_back(place, manifest)
    catalogue.add_proof(place, manifest, found)
    showing.print_proof(manifest, found, json)
    if found.verdict == "failed":
        raise Damaged(f"{manifest.name} failed: {found.cause}.", hint="Look at the store.")


def _name_newer(newer: Copy | None) -> None:
    if newer is not None:
        showing.say(
            f"note: {newer.name} is newer, and was never compared (L3). `--copy latest` takes it; "
            "a restore compares it before it goes live."
        )


def _undo_words(done: restore.Restoration, url_env: str | None) -> str | None:
    if not done.kept_as:
        return None
    words = ["python", "-m", "flowforge.breakglass", "undo", done.restore_id, "--as", done.database]
    return shlex.join([*words, *(("--url-env", url_env) if url_env else ())])


def _record(place: Store, manifest: Manifest, found: Proof) -> None:
    """Put a proof beside its copy, when the store lets itself be written to."""
    try:
        catalogue.add_proof(place, manifest, found)
    except FlowForgeError as error:
        showing.say(f"note: this is not written beside the copy: {error.message}")


def _choose(place: Store, server: str | None, database: str | None, wanted: str) -> Copy:
    return choosing.choose(choosing.find_copies(place, server, database), wanted)


def _find(chosen: Copy, place: Store) -> Manifest:
    return catalogue.load_manifest(place, chosen.server, chosen.database, chosen.name)


def _ask(made: restores.RestorePlan) -> str:
    if not terminal.is_interactive():
        raise Refused(
            "Nobody is here to agree to the plan.",
            hint=f"Give the same command again with --plan {made.digest}, or --yes.",
        )
    typer.confirm("Do it?", abort=True, err=True)
    return made.digest
