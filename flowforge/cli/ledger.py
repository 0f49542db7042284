"""`flowforge ledger`: make the catalogue again from what the stores hold."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from flowforge import terminal
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.addresses import FolderAddress, StoreAddress
from flowforge.terminal import JsonFlag, ProfileOption

group = typer.Typer(help="FlowForge's own tables.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `ledger` to the command."""
    app.add_typer(group, name="ledger")


@group.command("rebuild")
def rebuild(
    store: Annotated[
        str | None, typer.Option("--store", help="only this store; by default every saved one")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="where --store is, when no server can be asked"),
    ] = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Make the catalogue anew from every copy and proof in the stores."""
    from flowforge import ledger
    from flowforge.engines.backup.shelf import catalogue, history
    from flowforge.engines.backup.stores.store import open_store
    from flowforge.ledger import protection, queries

    url = _ledger_url()
    places = _places(store, folder, profile)
    ledger.migrate(url)
    engine = ledger.connect(url)
    rebuilt = []
    try:
        for name, place in places.items():
            kept_in = open_store(place)
            copies, proofs = catalogue.read_catalogue(kept_in)
            found = [(copy.server, copy.database, proof) for copy, proof in proofs]
            queries.replace_catalogue(engine, name, copies, found)
            protection.record_drills(engine, history.read_all(kept_in))
            rebuilt.append((name, len(copies), len(found)))
    finally:
        engine.dispose()
    if json:
        terminal.print_json(
            {"stores": [{"store": n, "copies": c, "proofs": p} for n, c, p in rebuilt]}
        )
        return
    terminal.print_table(("store", "copies", "proofs"), rebuilt)


def _places(store: str | None, folder: Path | None, profile: str | None) -> dict[str, StoreAddress]:
    """Where the stores are; saved keys are never given out, so a bucket needs this machine's."""
    if store is not None:
        names.check_system_name(store, kind="store")
    if folder is not None:
        if store is None:
            raise Refused("A folder was given without its name.", hint="Add --store NAME.")
        return {store: FolderAddress(name=store, folder=folder.resolve())}
    from flowforge.cli import saved
    from flowforge.cli.stores import read_address

    known = [str(one["name"]) for one in saved.list_saved("store", profile)]
    if store is None and not known:
        raise Refused("No store is saved.", hint="Save one with `flowforge store add NAME`.")
    chosen = known if store is None else [store]
    hidden = {"access_key_id": None, "secret_access_key": None}
    return {
        name: read_address(name, saved.show_saved("store", name, profile) | hidden)
        for name in chosen
    }


def _ledger_url() -> str:
    from flowforge.settings import read_settings

    settings = read_settings()
    if settings.ledger_url is not None:
        return settings.ledger_url.get_secret_value()
    try:
        secrets = json_text.loads((settings.state / "secrets.json").read_bytes())
        return str(secrets["ledger_url"])
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError) as error:
        raise Refused(
            "It is not known where the ledger is.",
            hint="Set FLOWFORGE_LEDGER_URL, or start the local platform once with `flowforge up`.",
        ) from error
