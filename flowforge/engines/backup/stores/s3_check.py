"""Try a bucket for real, with all that a backup, a restore and forgetting will ask of it."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace

from flowforge.engines.backup.stores.s3 import S3Store
from flowforge.engines.backup.stores.s3_errors import Taken
from flowforge.engines.backup.stores.s3_link import Limits, Link
from flowforge.engines.backup.stores.s3_upload import S3Upload
from flowforge.engines.backup.stores.store import Locked
from flowforge.errors import Refused, Unavailable
from flowforge.rules.addresses import S3Address

_PROBE_BYTES = 4096
_PATIENCE = Limits(connect_seconds=5, read_seconds=20, tries=3, total_seconds=60)


def try_bucket(address: S3Address) -> list[str]:
    """Write two objects, each way there is; read, list and delete them.

    Returns:
        What is in the way of some operation, though not of a backup.

    Raises:
        Refused: A backup would be refused, too.
        Unavailable: The bucket does not answer, or gave other bytes back.
    """
    limits = replace(_PATIENCE, part_bytes=_PROBE_BYTES)  # so that the second is sent as a part
    store = S3Store(address, limits=limits)
    content = secrets.token_bytes(_PROBE_BYTES)
    place = f"flowforge-probe/{secrets.token_hex(8)}/"
    whole, parts = f"{place}whole", f"{place}parts"
    try:
        store.put_new(whole, content)
        with store.upload(parts) as upload:
            upload.write(content)
            upload.commit()
        _try_overwriting(store.link, address.prefix + whole)
        if sorted(one.key for one in store.listing(place)) != sorted([whole, parts]):
            raise _odd(address, "does not list what was written")
        for key in (whole, parts):
            with store.read(key) as file:
                if file.read(2 * _PROBE_BYTES) != content:
                    raise _odd(address, "gave back other bytes than were written")
    finally:
        problems = [found for key in (whole, parts) if (found := _delete(store, key))]
    return problems[:1]


def _try_overwriting(link: Link, taken: str) -> None:
    """Send parts to a key that is taken: the last step has to fail."""
    upload = S3Upload(link, taken, expected_bytes=0, lock={})
    with contextlib.ExitStack() as ending:
        ending.callback(upload.close, None)
        upload.write(bytes(_PROBE_BYTES))
        try:
            upload.commit()
        except Taken:
            return
    raise Refused(
        f"The service behind the bucket {link.address.bucket} lets an upload in parts overwrite.",
        hint="Use one that knows `If-None-Match: *` there, such as Amazon S3, or a folder.",
    )


def _delete(store: S3Store, key: str) -> str | None:
    try:
        store.delete(key)
    except Locked as lock:
        return f"The bucket locks everything that is written to it, proofs too: {lock.message}"
    except Refused as refusal:
        return f"Old copies could not be deleted: {refusal}"
    return None


def _odd(address: S3Address, what: str) -> Unavailable:
    return Unavailable(
        f"The bucket {address.bucket} {what}.",
        hint="Check the service behind it before trusting it with a copy.",
    )
