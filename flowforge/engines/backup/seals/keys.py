"""The keys of copies sealed in the age format: who has the store does not have the data.

Every copy gets a key of its own. The data is encrypted to it while it streams; the key itself is
encrypted to each of the store's recipients and kept beside the copy. Whoever writes copies knows
only public keys, so it cannot read what was written before; a new recipient is added by wrapping
the small key again, and the data stays as it is. The `age` program opens both.

age does not bind a file to a name, so the key says which copy it is of, and the manifest which key.

Source of the format: https://age-encryption.org/v1
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyrage
from pydantic import SecretStr
from pyrage.x25519 import Identity, Recipient

from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Damaged, Refused
from flowforge.rules import names
from flowforge.rules.backups import Seal
from flowforge.rules.stored import StoredCopy

FEWEST_RECIPIENTS = 2
_COPY_LINE = "# key of {} in {}"
_MOST_KEY_BYTES = 64 * 1024

# Keys of the copies this process wrote, so that it can read back what it wrote and nothing older.
_written: dict[str, Identity] = {}


class Sealed(Refused):
    """No key at hand opens a copy."""


def new_key() -> Identity:
    """A key for one copy; this process may read that copy for as long as it lives."""
    identity = Identity.generate()
    _written[str(identity.to_public())] = identity
    return identity


def check_recipients(recipients: Sequence[str]) -> list[Recipient]:
    """Read a store's recipients.

    Raises:
        Refused: One is no age public key, or there are fewer than two different ones.
    """
    read = [_recipient(text) for text in recipients]
    if len({str(one) for one in read}) < FEWEST_RECIPIENTS:
        raise Refused(
            "Copies would be sealed to a single key: who loses it loses every copy.",
            hint="Name two or more recipients, one of them kept offline (`age-keygen`).",
        )
    return read


def keep_key(
    store: Store,
    server: str,
    database: str,
    name: str,
    identity: Identity,
    recipients: Sequence[str] = (),
    *,
    number: int = 1,
) -> None:
    """Wrap a copy's key to recipients and put it beside the copy.

    Args:
        store: Where the copy is.
        server: The server it was taken from.
        database: Its database.
        name: Its name.
        identity: Its key.
        recipients: Whom to wrap it to; by default the store's.
        number: 1 at first, counted up by each rotation.
    """
    wanted = check_recipients(recipients or store.recipients)
    text = f"{_copy_line(server, database, name)}\n{identity}\n"
    key = f"{names.keys_prefix(server, database, name)}{number:04}.age"
    store.put_new(key, pyrage.encrypt(text.encode(), wanted))


def describe(identity: Identity, recipients: Sequence[str], size_bytes: int, sha256: str) -> Seal:
    """What a manifest says of a seal."""
    return Seal(
        copy_recipient=str(identity.to_public()),
        recipients=tuple(recipients),
        size_bytes=size_bytes,
        sha256=sha256,
    )


def find_key(store: Store, manifest: StoredCopy) -> Identity:
    """The key of a sealed copy, opened with the keys at hand.

    Raises:
        Sealed: None of them opens it.
        Damaged: The key beside the copy is another copy's.
    """
    assert manifest.seal is not None
    wanted = manifest.seal.copy_recipient
    if wanted in _written:
        return _written[wanted]
    mine = [read_identity(key) for key in store.keys]
    place = manifest.server.name, manifest.database.name, manifest.name
    for stored in store.listing(names.keys_prefix(*place)) if mine else ():
        with store.read(stored.key) as file:
            wrapped = b"".join(iter(lambda: file.read(_MOST_KEY_BYTES) or b"", b""))
        if (text := _open(wrapped, mine)) is None:
            continue
        line, _, secret = text.partition("\n")
        identity = read_identity(SecretStr(secret))
        if line != _copy_line(*place) or str(identity.to_public()) != wanted:
            raise Damaged(
                f"The key beside {manifest.name} is not the key of that copy.",
                hint="Somebody exchanged it: choose another copy, and look at the store.",
            )
        return identity
    raise Sealed(
        f"{manifest.name} is sealed and no key here opens it.",
        hint="Give a recovery key: `flowforge key add NAME`, or --key FILE for break-glass. "
        f"It was sealed to {', '.join(manifest.seal.recipients)}.",
    )


def read_identity(text: SecretStr) -> Identity:
    """Read a secret key: an `age-keygen` file or its one line; comments are left out.

    Raises:
        Refused: It is none. Nothing of it is repeated.
    """
    lines = [line.strip() for line in text.get_secret_value().splitlines()]
    secrets = [line for line in lines if line and not line.startswith("#")]
    try:
        (secret,) = secrets
        return Identity.from_str(secret)
    except (ValueError, pyrage.IdentityError):
        raise Refused(
            "That is not an age secret key.",
            hint="Give the file that `age-keygen` wrote: one line begins with AGE-SECRET-KEY-1.",
        ) from None


def _recipient(text: str) -> Recipient:
    try:
        return Recipient.from_str(text.strip())
    except (ValueError, pyrage.RecipientError):
        raise Refused(
            "A recipient is not an age public key.",
            hint="It begins with age1; `age-keygen -y FILE` prints the one of a secret key.",
        ) from None


def _open(wrapped: bytes, identities: Iterable[Identity]) -> str | None:
    try:
        return str(pyrage.decrypt(wrapped, list(identities)), "ascii")
    except pyrage.DecryptError:
        return None


def _copy_line(server: str, database: str, name: str) -> str:
    return _COPY_LINE.format(name, names.prefix(server, database))
