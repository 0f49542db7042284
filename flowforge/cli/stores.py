"""`flowforge store add`: a folder or a bucket, tried before its name is saved."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue, SecretStr, ValidationError

from flowforge import terminal
from flowforge.cli import saved
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.addresses import FolderAddress, S3Address, StoreAddress
from flowforge.terminal import JsonFlag, ProfileOption

Name = Annotated[str, typer.Argument(help="what to call it, for example `attic`")]
FolderOption = Annotated[Path | None, typer.Option("--folder", help="folder that keeps the copies")]
Bucket = Annotated[str | None, typer.Option("--s3", help="bucket that keeps the copies")]
Prefix = Annotated[str, typer.Option("--prefix", help="what keys in the bucket begin with")]
Region = Annotated[str | None, typer.Option("--region", help="where the bucket is")]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="URL of a service like S3")]
KeyIdEnv = Annotated[
    str | None, typer.Option("--key-id-env", help="variable with the access key's id")
]
SecretEnv = Annotated[str | None, typer.Option("--secret-env", help="variable with the secret key")]
LockDays = Annotated[
    int | None, typer.Option("--lock-days", min=1, help="nobody deletes a new copy for so long")
]
Recipient = Annotated[
    list[str] | None, typer.Option("--recipient", help="age key to seal to; may be repeated")
]
RecoveryKey = Annotated[
    Path | None, typer.Option("--recovery-key", help="file of a key that opens them; not kept")
]
NoTest = Annotated[bool, typer.Option("--no-test", help="save it without trying it first")]
_BUCKET_FIELDS = ("bucket", "prefix", "region", "endpoint_url", "lock_days")


def add_store(
    context: typer.Context,
    name: Name,
    folder: FolderOption = None,
    bucket: Bucket = None,
    prefix: Prefix = "",
    region: Region = None,
    endpoint: Endpoint = None,
    key_id_env: KeyIdEnv = None,
    secret_env: SecretEnv = None,
    lock_days: LockDays = None,
    recipient: Recipient = None,
    recovery_key: RecoveryKey = None,
    no_test: NoTest = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Save a folder or a bucket as a store of copies."""
    names.check_system_name(name, kind="store")
    if context.args or (folder is None) == (bucket is None):
        raise Refused(
            "It is not said what keeps the copies.",
            hint="Give exactly one of --folder FOLDER and --s3 BUCKET, and no word more.",
        )
    value: dict[str, JsonValue] = {"recipients": list(recipient or [])}
    if folder is not None:
        value |= {"folder": str(folder.expanduser().resolve())}
    else:
        plain = prefix.strip("/")
        given = (bucket, f"{plain}/" if plain else "", region, endpoint, lock_days)
        value |= dict(zip(_BUCKET_FIELDS, given, strict=True)) | _keys(key_id_env, secret_env)
    address = read_address(name, value)
    if recipient and not no_test:
        _prove_recovery(recipient, recovery_key)
    problems = [] if no_test else _try(address)
    action = saved.save("store", name, value, profile)
    _print(name, action, address, problems, json)


def read_address(name: str, fields: Mapping[str, JsonValue]) -> StoreAddress:
    """The place that the fields of a store say.

    Raises:
        Refused: They say none.
    """
    if fields.get("folder"):
        return FolderAddress(name=name, folder=Path(str(fields["folder"])))
    keys = ("access_key_id", "secret_access_key")
    told = {field: fields[field] for field in (*_BUCKET_FIELDS, *keys) if fields.get(field)}
    try:
        return S3Address.model_validate({"name": name, **told})
    except ValidationError:
        raise Refused(
            f"The store {name} says no place that can be used from here.",
            hint=f"`flowforge store add {name} --help` lists what a bucket needs.",
        ) from None


def _keys(key_id_env: str | None, secret_env: str | None) -> dict[str, JsonValue]:
    """The keys in two variables; none named means those of the machine or pod."""
    if key_id_env is None and secret_env is None:
        return {}
    found = [os.environ.get(variable or "", "").strip() for variable in (key_id_env, secret_env)]
    if not all(found):
        raise Refused(
            "Half of the access key is missing.",
            hint="Name two variables that are set: --key-id-env VAR and --secret-env VAR.",
        )
    return {"access_key_id": found[0], "secret_access_key": found[1]}


def _prove_recovery(recipients: list[str], file: Path | None) -> None:
    """Let no copy be sealed before a key was seen to open what is sealed like it."""
    from flowforge.engines.backup.seals import recovery

    if file is None:
        raise Refused(
            "No recovery key was shown to open what would be sealed.",
            hint="Add --recovery-key FILE, what `age-keygen` wrote for one of the recipients: it "
            "is read once and not kept. Without it there is only --no-test.",
        )
    try:
        secret = SecretStr(file.expanduser().read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"The recovery key {file} cannot be read.",
            hint="Name a file that `age-keygen` wrote, readable for you.",
        ) from error
    recovery.prove_opens(recipients, secret)


def _try(address: StoreAddress) -> list[str]:
    """Write to a store before its name is saved."""
    if isinstance(address, S3Address):
        from flowforge.engines.backup.stores.s3_check import try_bucket  # botocore is large

        return try_bucket(address)
    folder = address.folder
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise Refused(
            f"{folder} is not a folder that can be written here.",
            hint=f"Make it with `mkdir -p {shlex.quote(str(folder))}`, "
            "or use --no-test when only workers reach it.",
        )
    return []


def _print(
    name: str, action: str, address: StoreAddress, problems: list[str], as_json: bool
) -> None:
    where = str(address.folder) if isinstance(address, FolderAddress) else address.where
    if as_json:
        found = {"kind": "store", "name": name, "action": action, "where": where}
        terminal.print_json({**found, "problems": list(problems)})
        return
    terminal.print_facts({"saved": f"{name} ({action})", "where": where})
    for problem in problems:
        terminal.out.print(f"problem: {problem}", markup=False)
