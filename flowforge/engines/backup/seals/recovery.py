"""Recovery keys: the secret halves of the public keys that copies are sealed to."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import pyrage
from pydantic import SecretStr

from flowforge.engines.backup.seals import keys
from flowforge.errors import Refused


def public_key(secret: SecretStr) -> str:
    """The public half of a recovery key, which is no secret.

    Raises:
        Refused: It is no age secret key. Nothing of it is repeated.
    """
    return str(keys.read_identity(secret).to_public())


def prove_opens(recipients: Sequence[str], secret: SecretStr) -> None:
    """Make sure, before a copy depends on it, that a recovery key opens what a store will seal.

    Args:
        recipients: The public keys that copies will be sealed to.
        secret: The secret key that is kept for the day it is needed.

    Raises:
        Refused: It does not, or there are fewer than two recipients.
    """
    identity, written = keys.read_identity(secret), secrets.token_bytes(64)
    sealed = pyrage.encrypt(written, keys.check_recipients(recipients))
    try:
        opens = pyrage.decrypt(sealed, [identity]) == written
    except pyrage.DecryptError:
        opens = False
    if not opens:
        raise Refused(
            f"That recovery key does not open what would be sealed: it belongs to "
            f"{identity.to_public()}, which is not among the recipients.",
            hint="Give the file of a key that is, or name that public key with --recipient, too.",
        )
