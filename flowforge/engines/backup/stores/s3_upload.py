"""An object on its way into a bucket: cut into parts, sent by threads, named in one last step.

A part is held in memory until the bucket has it, so that it alone is sent again. While as many
parts are on their way as may be, the writer waits. Every object carries a random word of the
upload that made it: when the answer to the last step is lost, it tells our object from another's.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, cast

from flowforge.engines.backup.stores.s3_errors import Taken, is_missing
from flowforge.engines.backup.stores.s3_link import FAILURES, Link
from flowforge.errors import Damaged, FlowForgeError, Unavailable

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef, HeadObjectOutputTypeDef

WORD = "flowforge-upload"
"""The metadata that holds the random word."""

_PLANNED_PARTS = 9_000
_PARTS_A_DOUBLING = 100


def choose_part_bytes(number: int, expected_bytes: int, least: int) -> int:
    """How large a part is, so that an object of any size has fewer than 10,000.

    Args:
        number: Which part; the first is 1.
        expected_bytes: How large the object is thought to become.
        least: No part but the last is smaller.
    """
    planned = math.ceil(expected_bytes / _PLANNED_PARTS)
    doublings = max(0, math.ceil((number - _PLANNED_PARTS) / _PARTS_A_DOUBLING))
    return int(max(least, planned) << doublings)


class S3Upload:
    """The parts of one object, and those that are on their way."""

    def __init__(
        self, link: Link, key: str, *, expected_bytes: int, lock: Mapping[str, object]
    ) -> None:
        self._link, self._key, self._expected = link, key, expected_bytes
        self._lock = lock
        self._word = secrets.token_hex(16)
        self._id: str | None = None
        self._filling = bytearray()
        self._part_bytes = choose_part_bytes(1, expected_bytes, link.limits.part_bytes)
        self._parts: list[Future[CompletedPartTypeDef]] = []
        self._in_flight: set[Future[CompletedPartTypeDef]] = set()
        self._sent_bytes = 0
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(link.limits.parts_in_flight, thread_name_prefix="part")
        self.committed = False

    def write(self, chunk: bytes) -> None:
        """Send on; waits while as many parts are on their way as may be."""
        rest = memoryview(chunk)
        while len(rest):
            room = self._part_bytes - len(self._filling)
            self._filling += rest[:room]
            rest = rest[room:]
            if len(self._filling) >= self._part_bytes:
                self._send_part()

    def commit(self) -> None:
        """Make the object appear, and ask the bucket whether it has."""
        size_bytes = self._sent_bytes + len(self._filling)
        failure: FlowForgeError | None = None
        try:
            if self._id is None:
                self._put_whole(bytes(self._filling))
            else:
                self._complete()
        except (Taken, Unavailable) as error:
            failure = error  # the answer may be lost, or be to a request sent twice
        found = settle(self._link, self._key, self._word, size_bytes, failure)
        self.committed = True
        if self._lock and "ObjectLockRetainUntilDate" not in found:
            self._hold()

    def close(self, reason: BaseException | None) -> None:
        """End the threads, and what was not committed.

        Args:
            reason: What ended the writing; it learns of an upload that could not be ended.
        """
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._filling = bytearray()
        if self.committed or self._id is None:
            return
        try:
            end_upload(self._link, self._key, self._id)
        except FlowForgeError as error:
            if reason is None:
                raise
            reason.add_note(f"Its unfinished upload stays until it is swept: {error.message}")

    def _send_part(self) -> None:
        """Hand the full part to a thread once one is free."""
        content, self._filling = self._filling, bytearray()
        if len(self._in_flight) >= self._link.limits.parts_in_flight:
            done, self._in_flight = wait(self._in_flight, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()
        if self._id is None:
            self._id = self._open()
        number = len(self._parts) + 1
        part = self._threads.submit(self._upload_part, self._id, number, content)
        self._parts.append(part)
        self._in_flight.add(part)
        self._sent_bytes += len(content)
        least = self._link.limits.part_bytes
        self._part_bytes = choose_part_bytes(number + 1, self._expected, least)

    def _open(self) -> str:
        def send(client: S3Client) -> str:
            return client.create_multipart_upload(
                **self._place(), ChecksumAlgorithm="SHA256", Metadata=self._said(), **self._held()
            )["UploadId"]

        return self._link.call("s3:PutObject", send)

    def _upload_part(self, upload: str, number: int, content: bytearray) -> CompletedPartTypeDef:
        digest = _sha256(content)

        def send(client: S3Client) -> str:
            return client.upload_part(
                **self._place(),
                UploadId=upload,
                PartNumber=number,
                Body=cast(bytes, content),  # botocore takes both, and a copy would cost a part
                ChecksumSHA256=digest,
            )["ETag"]

        etag = self._link.call("s3:PutObject", send, stop=self._stop)
        return {"ETag": etag, "PartNumber": number, "ChecksumSHA256": digest}

    def _complete(self) -> None:
        if self._filling:
            self._send_part()
        parts = [part.result() for part in self._parts]
        self._in_flight.clear()

        def send(client: S3Client) -> None:
            client.complete_multipart_upload(
                **self._place(),
                UploadId=str(self._id),
                MultipartUpload={"Parts": parts},
                IfNoneMatch="*",
            )

        self._link.call("s3:PutObject", send)

    def _put_whole(self, content: bytes) -> None:
        put(self._link, self._key, content, self._word, self._held())

    def _hold(self) -> None:
        """Lock the object, where the service did not do so when the upload began."""
        mode, until = self._lock["ObjectLockMode"], self._lock["ObjectLockRetainUntilDate"]
        retention: Any = {"Mode": mode, "RetainUntilDate": until}
        self._link.call(
            "s3:PutObjectRetention",
            lambda client: client.put_object_retention(**self._place(), Retention=retention),
        )

    def _place(self) -> dict[str, Any]:
        return {"Bucket": self._link.address.bucket, "Key": self._key}

    def _said(self) -> dict[str, str]:
        return {WORD: self._word}

    def _held(self) -> dict[str, Any]:
        return dict(self._lock)


def put(link: Link, key: str, content: bytes, word: str, lock: Mapping[str, object]) -> None:
    """Store an object in one request that fails when the key is taken."""
    extra: dict[str, Any] = dict(lock)

    def send(client: S3Client) -> None:
        client.put_object(
            Bucket=link.address.bucket,
            Key=key,
            Body=content,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=_sha256(content),
            Metadata={WORD: word},
            IfNoneMatch="*",
            **extra,
        )

    link.call("s3:PutObject", send)


def settle(
    link: Link, key: str, word: str, size_bytes: int, failure: FlowForgeError | None
) -> HeadObjectOutputTypeDef:
    """Ask the bucket what it holds after the last step, whatever was heard of that step.

    Raises:
        Taken: Another's object has the key.
        FlowForgeError: `failure`, when there is no object.
        Damaged: The step was said to be done, and the object is not there or is another.
    """
    found = describe(link, key)
    ours = found is not None and found["Metadata"].get(WORD) == word
    if found is not None and ours and found["ContentLength"] == size_bytes:
        return found
    if failure is not None and not ours:
        if found is None:
            raise failure
        raise taken(key) from failure
    held = f"{found['ContentLength']} bytes" if found is not None else "nothing"
    raise Damaged(
        f"The bucket {link.address.bucket} took {size_bytes} bytes as {key} and holds {held}.",
        hint="Find what else writes or deletes below this prefix before you back up again.",
    ) from failure


def describe(link: Link, key: str) -> HeadObjectOutputTypeDef | None:
    """What the bucket says about an object, or `None` when there is none."""

    def send(client: S3Client) -> HeadObjectOutputTypeDef | None:
        try:
            return client.head_object(Bucket=link.address.bucket, Key=key)
        except FAILURES as error:
            if is_missing(error):
                return None
            raise

    return link.call("s3:GetObject", send)


def end_upload(link: Link, key: str, upload: str) -> None:
    """End an upload, and make sure: a part that was on its way may have arrived after the end.

    Raises:
        Unavailable: The bucket still holds it.
    """
    for _ in range(3):
        place = {"Bucket": link.address.bucket, "Key": key, "UploadId": upload}
        if not _still_there(link, "s3:AbortMultipartUpload", "abort_multipart_upload", place):
            return
        if not _still_there(link, "s3:ListMultipartUploadParts", "list_parts", place):
            return
    raise Unavailable(
        f"An unfinished upload to {key} could not be ended.",
        hint="Leave it to the next run, or to the bucket's rule for unfinished uploads.",
    )


def taken(key: str) -> Taken:
    """The refusal of a key that another object has."""
    name = key.rpartition("/")[2]
    return Taken(f"{name} exists already.", hint="Nothing is ever overwritten; run it again later.")


def _still_there(link: Link, action: str, verb: str, place: dict[str, str]) -> bool:
    def send(client: S3Client) -> bool:
        try:
            getattr(client, verb)(**place)
        except client.exceptions.NoSuchUpload:
            return False
        return True

    return link.call(action, send)


def _sha256(content: bytes | bytearray) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
