"""The line to one bucket: time limits, the one layer of retries, and keys that are renewed."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader
from botocore.session import Session
from botocore.utils import parse_timestamp
from pydantic import SecretStr

from flowforge.engines.backup.stores import s3_errors
from flowforge.rules.addresses import S3Address

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")
_DESCRIPTIONS = create_loader()  # of the service: large, slow to read, the same for every client
_MIB = 1 << 20
_MOST_CONNECTIONS = 32
"""To one bucket from one client."""
_LONGEST_PAUSE_SECONDS = 8.0
FAILURES = (ClientError, BotoCoreError, OSError)
"""Everything botocore raises when a request was not answered as hoped."""


@dataclass(frozen=True)
class Limits:
    """How long to wait for a bucket, and how much to hold in memory for it."""

    connect_seconds: float = 10
    read_seconds: float = 60
    """How long a connection may be silent, in either direction."""

    tries: int = 7
    """How often one request is sent at most."""

    total_seconds: float = 240
    """After this long no request is sent again."""

    first_pause_seconds: float = 0.25
    """Before the second try; each further pause is twice as long."""

    part_bytes: int = 8 * _MIB
    """The least a part of an upload has; the last may have less."""

    parts_in_flight: int = 2
    """An upload holds this many parts in memory, and the one that is being filled."""

    abandoned_after: timedelta = timedelta(hours=24)
    """An upload that nothing was added to for this long is nobody's."""


class Link:
    """Sends requests to one bucket, each again while that may help.

    A request that is sent again goes over a new connection when the old one broke or fell silent.
    """

    def __init__(self, address: S3Address, limits: Limits) -> None:
        self.address, self.limits = address, limits
        self._lock = threading.Lock()
        self._client = _connect(address, limits)

    def call(
        self,
        action: str,
        send: Callable[[S3Client], T],
        *,
        stop: threading.Event | None = None,
    ) -> T:
        """Send a request until it is answered.

        Args:
            action: The right it uses, as policies spell it; for the message when it fails.
            send: Sends it once.
            stop: Set when nobody waits for the answer any more.

        Raises:
            Refused: The answer was no.
            Unavailable: There was none in the time that `limits` give.
        """
        quit_at = time.monotonic() + self.limits.total_seconds
        renewed = False
        for attempt in itertools.count(1):
            client = self._client
            try:
                return send(client)
            except FAILURES as error:
                if s3_errors.is_expired(error) and not renewed:
                    renewed = True
                    self._renew(client, action)
                    continue
                pause = self._pause_after(attempt)
                is_last = attempt >= self.limits.tries or time.monotonic() + pause > quit_at
                if is_last or not s3_errors.is_passing(error):
                    raise s3_errors.explain(error, self.address, action) from error
                if (stop or threading.Event()).wait(pause):
                    raise s3_errors.explain(error, self.address, action) from error
        raise AssertionError("counting does not end")

    def _pause_after(self, attempt: int) -> float:
        longest = min(
            self.limits.first_pause_seconds * 2.0 ** (attempt - 1), _LONGEST_PAUSE_SECONDS
        )
        return longest * random.uniform(0.5, 1)  # so that many that failed together part

    def _renew(self, used: S3Client, action: str) -> None:
        """Read the keys anew from where they come from, once for all that found them expired."""
        with self._lock:
            if self._client is not used:
                return
            try:
                self._client = _connect(self.address, self.limits)
            except FAILURES as error:
                raise s3_errors.explain(error, self.address, action) from error


def _connect(address: S3Address, limits: Limits) -> S3Client:
    """Make a client; without keys in the address the machine's own chain is asked for them."""
    config = Config(
        connect_timeout=limits.connect_seconds,
        read_timeout=limits.read_seconds,
        retries={"total_max_attempts": 1},  # `Link.call` is the one that tries again
        signature_version="s3v4",
        s3={"addressing_style": "path" if address.endpoint_url else "auto"},
        # Checksums are sent where they are computed from the bytes; S3-alikes know no others.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=_MOST_CONNECTIONS,
        tcp_keepalive=True,
        user_agent="FlowForge",  # otherwise it is put together anew for every request
    )
    keys: dict[str, Any] = {}
    if address.access_key_id:
        keys = {
            "aws_access_key_id": address.access_key_id,
            "aws_secret_access_key": _open(address.secret_access_key),
            "aws_session_token": _open(address.session_token),
        }
    session = Session()
    session.register_component("data_loader", _DESCRIPTIONS)
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=_read_time)
    try:
        client = session.create_client(
            "s3",
            region_name=address.region,
            endpoint_url=address.endpoint_url,
            config=config,
            **keys,
        )
    except (*FAILURES, ValueError) as error:
        raise s3_errors.explain(error, address, "a connection") from error
    return cast("S3Client", client)


def _read_time(text: str) -> datetime:
    """A time as services write it. botocore tries every format there is, for each object listed."""
    with contextlib.suppress(ValueError, TypeError):
        return datetime.fromisoformat(text)
    with contextlib.suppress(ValueError, TypeError):
        return parsedate_to_datetime(text)
    return parse_timestamp(text)


def _open(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
