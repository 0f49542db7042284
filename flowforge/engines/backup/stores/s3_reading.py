"""An object read from a bucket, over as many connections as break on the way."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import IncompleteReadError
from botocore.response import StreamingBody

from flowforge.engines.backup.stores import s3_errors
from flowforge.engines.backup.stores.s3_link import FAILURES, Link
from flowforge.errors import Damaged

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef

_ACTION = "s3:GetObject"


class S3Reader:
    """Reads on where a connection broke, as long as the object is the one it began with."""

    def __init__(self, link: Link, key: str, offset: int, length: int | None) -> None:
        self._link, self._key = link, key
        self._at = offset
        self._end = None if length is None else offset + length
        self._etag: str | None = None
        self._body: StreamingBody | None = None
        self._broken = 0
        self._open()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; nothing at the end.

        Raises:
            Unavailable: The connection broke again and again without a byte in between.
            Damaged: The object was replaced or deleted meanwhile.
        """
        while self._body is not None:
            try:
                chunk = self._body.read(size)
            except (*FAILURES, IncompleteReadError) as error:
                self._broken += 1
                if self._broken >= self._link.limits.tries:
                    raise s3_errors.explain(error, self._link.address, _ACTION) from error
                self._body.close()
                self._open()
                continue
            self._at += len(chunk)
            self._broken = 0 if chunk else self._broken
            return chunk
        return b""

    def close(self) -> None:
        """Give the connection back, or up when there is more to come on it."""
        if self._body is not None:
            self._body.close()

    def _open(self) -> None:
        """Ask for what is missing; `_body` is `None` when nothing is."""
        if self._end is not None and self._at >= self._end:
            self._body = None
            return
        found = self._link.call(_ACTION, self._send)
        if found is None:
            self._body = None
            return
        self._etag, self._body = found["ETag"], found["Body"]

    def _send(self, client: S3Client) -> GetObjectOutputTypeDef | None:
        address = self._link.address
        asked: dict[str, Any] = {"Bucket": address.bucket, "Key": address.prefix + self._key}
        if self._at or self._end is not None:
            last = "" if self._end is None else self._end - 1
            asked["Range"] = f"bytes={self._at}-{last}"
        if self._etag is not None:
            asked["IfMatch"] = self._etag
        try:
            found = client.get_object(**asked)
        except FAILURES as error:
            self._judge(error)
            return None
        if "Range" in asked and not found.get("ContentRange", "").startswith(f"bytes {self._at}-"):
            with contextlib.closing(found["Body"]):
                raise Damaged(
                    f"The bucket {asked['Bucket']} does not give parts of an object.",
                    hint="Use a service that knows ranges, such as Amazon S3.",
                )
        return found

    def _judge(self, error: BaseException) -> None:
        """Tell the end of an object, a missing one and another one from a failure."""
        code, store = s3_errors.code_of(error), self._link.address.name
        if code == "InvalidRange":
            return
        if code in ("PreconditionFailed", "412"):
            raise Damaged(
                f"{self._key} was replaced in the store {store} while it was read.",
                hint="Find what writes below this prefix; nothing of FlowForge overwrites.",
            ) from error
        if s3_errors.is_missing(error):
            raise Damaged(
                f"The store {store} has no {self._key}.",
                hint="It was deleted outside FlowForge; choose another copy.",
            ) from error
        raise error
