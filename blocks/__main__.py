"""`python -m blocks` keeps the documents an environment needs: apply, list, show, remove, test.

What is secret comes on standard input, never as an argument, and never goes out again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping

from prefect.client.orchestration import SyncPrefectClient
from pydantic import JsonValue

from blocks import (
    BackupKey,
    BackupStore,
    GitRepository,
    Pager,
    PostgresServer,
    RedisServer,
    SandboxProfile,
    documents,
)
from flowforge import prefect_api, terminal
from flowforge.errors import FlowForgeError, Refused

_Verb = Callable[[SyncPrefectClient, argparse.Namespace], Mapping[str, JsonValue]]


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 unavailable, 3 refused, 4 damaged."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb == "apply":
            options.wanted = documents.read_request(_read_input())
        with prefect_api.connect() as client:
            answer = _VERBS[options.verb](client, options)
    except FlowForgeError as error:
        terminal.print_error(error)
        return error.exit_code
    if options.json:
        terminal.print_json(answer)
    else:
        _print(options.verb, answer)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m blocks", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    kinds = tuple(documents.KINDS)
    apply = verbs.add_parser("apply", help="save what the JSON on standard input says")
    listing = verbs.add_parser("list", help="show what is saved, without secrets")
    listing.add_argument("kind", nargs="?", choices=kinds)
    listing.add_argument("--fields", action="store_true", help="with every field of each")
    parsers = [apply, listing]
    for verb, text in (
        ("show", "show one document, without secrets"),
        ("remove", "remove one document"),
        ("test", "try one system for real"),
    ):
        one = verbs.add_parser(verb, help=text)
        one.add_argument("kind", choices=kinds)
        one.add_argument("name")
        parsers.append(one)
    for one in parsers:
        one.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _read_input() -> object:
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        raise Refused(
            "Standard input is not JSON.",
            hint='Give JSON such as {"servers": {"shop": "postgresql://..."}} on standard input.',
        ) from error


def _apply(client: SyncPrefectClient, options: argparse.Namespace) -> Mapping[str, JsonValue]:
    saved = documents.apply(client, options.wanted)
    return {
        "saved": [
            {"kind": one.kind, "name": one.name, "action": one.action, "fields": list(one.fields)}
            for one in saved
        ]
    }


def _list(client: SyncPrefectClient, options: argparse.Namespace) -> Mapping[str, JsonValue]:
    rows: list[JsonValue] = []
    for kind in [options.kind] if options.kind else documents.KINDS:
        for name, block in documents.read_blocks(client, kind).items():
            where = (
                f"unreadable: {block}"
                if isinstance(block, FlowForgeError)
                else documents.where(block)
            )
            row: dict[str, JsonValue] = {"kind": kind, "name": name, "where": where}
            if options.fields and not isinstance(block, FlowForgeError):
                row["fields"] = documents.fields_without_secrets(block)
            rows.append(row)
    return {"documents": rows}


def _show(client: SyncPrefectClient, options: argparse.Namespace) -> Mapping[str, JsonValue]:
    block = documents.read_one(client, options.kind, options.name)
    return {
        "kind": options.kind,
        "name": options.name,
        "where": documents.where(block),
        "fields": documents.fields_without_secrets(block),
    }


def _remove(client: SyncPrefectClient, options: argparse.Namespace) -> Mapping[str, JsonValue]:
    documents.remove(client, options.kind, options.name)
    return {"kind": options.kind, "name": options.name, "action": "removed"}


def _test(client: SyncPrefectClient, options: argparse.Namespace) -> Mapping[str, JsonValue]:
    from blocks import checks  # drivers that only this verb needs

    block = documents.read_one(client, options.kind, options.name)
    if isinstance(block, PostgresServer):
        found = checks.check_server(options.name, block)
    elif isinstance(block, RedisServer):
        found = checks.check_redis(options.name, block)
    elif isinstance(block, BackupStore):
        found = checks.check_store(options.name, block)
    elif isinstance(block, BackupKey):
        found = checks.check_key(options.name, block, documents.read_blocks(client, "store"))
    elif isinstance(block, GitRepository):
        found = checks.check_repo(options.name, block)
    elif isinstance(block, SandboxProfile):
        found = checks.check_profile(options.name, block)
    else:
        assert isinstance(block, Pager)
        found = checks.check_pager(options.name, block)
    return {"kind": options.kind, "name": options.name, "ok": True, **found}


_VERBS: Mapping[str, _Verb] = {
    "apply": _apply,
    "list": _list,
    "show": _show,
    "remove": _remove,
    "test": _test,
}


def _print(verb: str, answer: Mapping[str, JsonValue]) -> None:
    rows = answer.get("saved") or answer.get("documents")
    if isinstance(rows, list):
        cells = [list(row.values())[:3] for row in rows if isinstance(row, dict)]
        terminal.print_table(("kind", "name", "where" if verb == "list" else "action"), cells)
        return
    for field, value in answer.items():
        terminal.out.print(f"{field}: {_flat(value)}", markup=False)


def _flat(value: JsonValue) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
