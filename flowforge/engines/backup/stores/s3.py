"""A bucket as a store.

An object is named in one request that fails when the name is taken (`If-None-Match: *`), so a
service that ignores this cannot be a store; the first write of a process makes sure, with an object
that stays for the next. An upload that was left shows in no listing; what a killed process left is
swept once nothing was added to it for a day.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flowforge.engines.backup.stores import s3_errors, s3_upload
from flowforge.engines.backup.stores.s3_errors import Taken
from flowforge.engines.backup.stores.s3_link import FAILURES, Limits, Link
from flowforge.engines.backup.stores.s3_reading import S3Reader
from flowforge.engines.backup.stores.s3_upload import S3Upload
from flowforge.engines.backup.stores.store import FOREVER, Locked, Readable, Stored
from flowforge.errors import Refused, Unavailable
from flowforge.rules import names
from flowforge.rules.addresses import S3Address

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import (
        ListMultipartUploadsOutputTypeDef,
        ListObjectsV2OutputTypeDef,
        MultipartUploadTypeDef,
    )

_MARK = "flowforge-store"
_MARK_TEXT = b"FlowForge keeps copies below this prefix and never overwrites one.\n"


class S3Store:
    """Keeps objects in one bucket, below one prefix."""

    def __init__(self, address: S3Address, *, limits: Limits | None = None) -> None:
        self.name, self.address = address.name, address
        self.recipients, self.keys = address.recipients, address.keys
        self.link = Link(address, limits or Limits())
        self._first_write = threading.Lock()
        self._is_safe = False
        self._is_there = False

    @contextlib.contextmanager
    def upload(self, key: str, *, expected_bytes: int = 0) -> Iterator[S3Upload]:
        """Begin an object; nothing is sent before there is a whole part, or the end."""
        place = self._place(key)
        self._make_sure()
        if s3_upload.describe(self.link, place) is not None:
            raise s3_upload.taken(key)
        upload = S3Upload(self.link, place, expected_bytes=expected_bytes, lock=self._lock_for(key))
        try:
            yield upload
        except BaseException as error:
            upload.close(error)
            raise
        upload.close(None)

    def put_new(self, key: str, content: bytes) -> None:
        """Store a small object in one request."""
        place, word = self._place(key), secrets.token_hex(16)
        self._make_sure()
        try:
            s3_upload.put(self.link, place, content, word, self._lock_for(key))
        except (Taken, Unavailable) as error:
            s3_upload.settle(self.link, place, word, len(content), error)

    @contextlib.contextmanager
    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[Readable]:
        """Open an object."""
        self._place(key)
        with contextlib.closing(S3Reader(self.link, key, offset, length)) as reader:
            yield reader

    def head(self, key: str) -> Stored | None:
        """Describe an object, and until when it is locked."""
        found = s3_upload.describe(self.link, self._place(key))
        if found is None:
            self._check_bucket()
            return None
        until = found.get("ObjectLockRetainUntilDate")
        if found.get("ObjectLockLegalHoldStatus") == "ON":
            until = FOREVER
        return Stored(key, found["ContentLength"], found["LastModified"].astimezone(UTC), until)

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Every object whose key begins with `prefix`.

        Raises:
            Unavailable: A page could not be had, or does not follow from the one before.
        """
        seen: set[str] = set()
        last = ""
        for page in self._pages(prefix):
            for one in page.get("Contents", []):
                key = one["Key"].removeprefix(self.address.prefix)
                if key in seen:
                    continue
                if key < last:
                    raise self._broken_listing("is out of order")
                seen.add(key)
                last = key
                yield Stored(key, one["Size"], one["LastModified"].astimezone(UTC))

    def delete(self, key: str) -> None:
        """Remove an object; in a bucket with versions, hide it."""
        found = self.head(key)
        if found is None:
            return
        if found.locked_until is not None and found.locked_until > datetime.now(UTC):
            raise Locked(key, found.locked_until)
        bucket, place = self.address.bucket, self._place(key)
        self.link.call(
            "s3:DeleteObject", lambda client: client.delete_object(Bucket=bucket, Key=place)
        )

    def sweep(self, prefix: str, older_than: datetime) -> list[str]:
        """End uploads below `prefix` that are nobody's any more."""
        ended = []
        for upload in self._uploads(prefix):
            if upload["Initiated"] < older_than and self._is_abandoned(upload):
                s3_upload.end_upload(self.link, upload["Key"], upload["UploadId"])
                ended.append(upload["Key"].removeprefix(self.address.prefix))
        return ended

    def _uploads(self, prefix: str) -> Iterator[MultipartUploadTypeDef]:
        asked: dict[str, Any] = {"Bucket": self.address.bucket, "Prefix": self._place(prefix)}

        def send(client: S3Client) -> ListMultipartUploadsOutputTypeDef:
            return client.list_multipart_uploads(**asked)

        more = True
        while more:
            page = self.link.call("s3:ListBucketMultipartUploads", send)
            yield from page.get("Uploads", [])
            more = page.get("IsTruncated", False)
            asked["KeyMarker"] = page.get("NextKeyMarker")
            asked["UploadIdMarker"] = page.get("NextUploadIdMarker")

    def _is_abandoned(self, upload: MultipartUploadTypeDef) -> bool:
        """Tell whether nothing was added to an upload for as long as the limits say."""
        bucket, key, word = self.address.bucket, upload["Key"], upload["UploadId"]
        before = datetime.now(UTC) - self.link.limits.abandoned_after

        def send(client: S3Client) -> bool:
            listing = client.get_paginator("list_parts")
            pages = listing.paginate(Bucket=bucket, Key=key, UploadId=word)
            parts = (part for page in pages for part in page.get("Parts", []))
            return all(part["LastModified"] < before for part in parts)

        return upload["Initiated"] < before and self.link.call("s3:ListMultipartUploadParts", send)

    def _pages(self, prefix: str) -> Iterator[ListObjectsV2OutputTypeDef]:
        """Page after page, as long as each says truly whether another follows."""
        asked: dict[str, Any] = {"Bucket": self.address.bucket, "Prefix": self._place(prefix)}

        def send(client: S3Client) -> ListObjectsV2OutputTypeDef:
            return client.list_objects_v2(**asked)

        while True:
            page = self.link.call("s3:ListBucket", send)
            yield page
            if not page["IsTruncated"]:
                return
            following = page.get("NextContinuationToken")
            if not following or following == asked.get("ContinuationToken"):
                raise self._broken_listing("breaks off")
            asked["ContinuationToken"] = following

    def _broken_listing(self, how: str) -> Unavailable:
        return Unavailable(
            f"The listing of the bucket {self.address.bucket} {how}, so it cannot be relied on.",
            hint="Run it again; if it stays so, use a service that lists as Amazon S3 does.",
        )

    def _make_sure(self) -> None:
        """Refuse a service that lets one object overwrite another, once for this store."""
        with self._first_write:
            if not self._is_safe:
                self._is_safe = self._has_mark() or self._has_mark()
            if not self._is_safe:
                raise Refused(
                    f"The service behind the bucket {self.address.bucket} overwrites objects: it "
                    "does not know conditional writes.",
                    hint="Use one that knows `If-None-Match: *`, such as Amazon S3, or a folder.",
                )

    def _has_mark(self) -> bool:
        """Write the mark, and tell whether the bucket said that it is there already."""
        word = secrets.token_hex(16)
        try:
            s3_upload.put(self.link, self._place(_MARK), _MARK_TEXT, word, {})
        except Taken:
            return True
        return False

    def _check_bucket(self) -> None:
        """Tell a missing object from a missing bucket, which the answer to a look-up does not."""
        if self._is_there:
            return
        bucket = self.address.bucket

        def send(client: S3Client) -> None:
            try:
                client.head_bucket(Bucket=bucket)
            except FAILURES as error:
                if s3_errors.is_missing(error):
                    raise Refused(
                        f"There is no bucket {bucket}.",
                        hint="Make it, or save its right name and region with "
                        "`flowforge store add`.",
                    ) from error
                raise

        self.link.call("s3:ListBucket", send)
        self._is_there = True

    def _lock_for(self, key: str) -> dict[str, object]:
        """What makes the bucket hold a new object: all a copy is lost without, never a proof."""
        is_part = names.is_data(key) or names.is_wrapped_key(key)
        is_copy = is_part or key.endswith(names.MANIFEST_SUFFIX)
        if self.address.lock_days is None or not is_copy:
            return {}
        return {
            "ObjectLockMode": self.address.lock_mode.upper(),
            "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(self.address.lock_days),
        }

    def _place(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise Refused(f"{key!r} is not a key.", hint="Keys stay inside their store.")
        return self.address.prefix + key
