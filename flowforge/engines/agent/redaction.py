"""Secrets masked in whatever a job says, also encoded, wrapped, or in pieces.

This keeps a secret that was printed out of what people and the model read. It is no wall: who wants
to smuggle a value out can write it in a way nobody foresaw. The wall is that no secret is in a
sandbox.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn
from urllib.parse import quote, quote_plus

from flowforge.errors import Refused

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SHORTEST = 6
"""A shorter value would be found in half of all text."""

_LINE = 16
_WHITESPACE = b" \t\r\n"
_WORD = re.compile(rb"[^ \t\r\n]+")
_PERCENT = re.compile(r"%[0-9A-F]{2}")
_MOST_HELD = 64 * 1024

Span = tuple[int, int, bytes]


class Redactor:
    """Masks the secrets of one job.

    Each is found as it is, in base64 at any offset, in hexadecimal, percent-encoded and as JSON
    escapes it; white space in between does not hide it.

    Args:
        secrets: Values by the name the mask shows.

    Raises:
        Refused: A value is too short to be masked.
    """

    __slots__ = ("_needles",)

    def __init__(self, secrets: Mapping[str, str]) -> None:
        masks: dict[bytes, bytes] = {}
        for name, value in secrets.items():
            if len(_squeeze(value.encode())) < SHORTEST:
                raise Refused(
                    f"The secret {name!r} is shorter than {SHORTEST} characters.",
                    hint="Use a longer one; this could not be kept out of logs.",
                )
            for form in _forms(value):
                masks.setdefault(_squeeze(form), f"[secret {name}]".encode())
        self._needles = tuple(masks.items())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a redactor holds secrets and is not stored")

    def data(self, content: bytes) -> bytes:
        """Mask bytes that are whole."""
        stream = self.stream()
        return stream.feed(content) + stream.end()

    def data_after_a_cut(self, content: bytes) -> bytes:
        """Mask the end of something, whose first bytes may be the rest of a secret."""
        longest = max((len(needle) for needle, _ in self._needles), default=0)
        return self.data(content[longest:])

    def text(self, text: str) -> str:
        """Mask a text that is whole."""
        if not self._needles:
            return text
        return self.data(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def stream(self) -> Stream:
        """Mask bytes that come in pieces."""
        return Stream(self._needles)

    def file(self, path: Path) -> RedactedFile:
        """A new file that holds what is written to it, masked."""
        return RedactedFile(path.open("xb"), self.stream())


class Stream:
    """Masks one stream of bytes. What may be the start of a secret waits for what follows."""

    __slots__ = ("_held", "_needles")

    def __init__(self, needles: tuple[tuple[bytes, bytes], ...]) -> None:
        self._needles = needles
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece; what can be shown of what came until now."""
        if not self._needles:
            return chunk
        content = self._held + chunk
        squeezed = _squeeze(content)
        spans = _merge(_find(squeezed, self._needles))
        cut = _first_open(squeezed, self._needles)
        for start, end, _ in reversed(spans):
            if start < cut < end:
                cut = start
        place = next(_places(content, [cut]), len(content)) if cut < len(squeezed) else len(content)
        if len(content) - place > _MOST_HELD + len(squeezed) - cut:
            place = len(content)  # white space without end, which nobody may wait for
        self._held = content[place:]
        return _replace(content[:place], [span for span in spans if span[0] < cut])

    def feed_text(self, chunk: str) -> str:
        """The same for text."""
        return self.feed(chunk.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def end(self) -> bytes:
        """What waited, when nothing follows."""
        held, self._held = self._held, b""
        return _replace(held, _merge(_find(_squeeze(held), self._needles)))

    def end_text(self) -> str:
        """The same as text."""
        return self.end().decode(errors="surrogatepass")


class RedactedFile(io.BytesIO):
    """A file for a sandbox to write a command's output to. Only masked bytes reach the disk."""

    def __init__(self, file: BinaryIO, stream: Stream) -> None:
        super().__init__()
        self._file = file
        self._stream = stream

    def write(self, content: ReadableBuffer) -> int:
        """Write a piece; what may be the start of a secret waits."""
        piece = bytes(content)
        self._file.write(self._stream.feed(piece))
        return len(piece)

    def close(self) -> None:
        """Write what waited, and close."""
        if not self.closed:
            self._file.write(self._stream.end())
            self._file.close()
        super().close()


def _forms(secret: str) -> Iterable[bytes]:
    """Every way a secret is written that is looked for."""
    raw = secret.encode()
    texts = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    texts |= {_PERCENT.sub(lambda found: found[0].lower(), text) for text in texts}
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        texts |= {escaped, escaped.replace("/", r"\/")}
    lines = [line for line in secret.splitlines() if len(line) >= _LINE and line[0] != "-"]
    if len(lines) > 1:  # a key; a part of it is a secret, too
        texts |= set(lines)
    encoded = chain.from_iterable(_base64(raw, before) for before in range(3))
    return chain((text.encode() for text in texts), encoded, _hexadecimal(raw))


def _base64(raw: bytes, before: int) -> Iterable[bytes]:
    """The characters that depend on the secret alone when so many bytes come before it."""
    start, end = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
    encoded = base64.b64encode(bytes(before) + raw)[start:end]
    return (encoded, encoded.translate(bytes.maketrans(b"+/", b"-_")))


def _hexadecimal(raw: bytes) -> Iterable[bytes]:
    return (raw.hex().encode(), raw.hex().upper().encode())


def _squeeze(content: bytes) -> bytes:
    return content.translate(None, _WHITESPACE)


def _find(squeezed: bytes, needles: Iterable[tuple[bytes, bytes]]) -> list[Span]:
    spans = []
    for needle, mask in needles:
        start = squeezed.find(needle)
        while start >= 0:
            spans.append((start, start + len(needle), mask))
            start = squeezed.find(needle, start + len(needle))
    return spans


def _merge(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end, mask in sorted(spans):
        if merged and start < merged[-1][1]:
            first, last, kept = merged[-1]
            merged[-1] = (first, max(last, end), kept)
        else:
            merged.append((start, end, mask))
    return merged


def _first_open(squeezed: bytes, needles: Iterable[tuple[bytes, bytes]]) -> int:
    """Where the first secret begins that may go on after the end; the end if none does."""
    first = len(squeezed)
    for needle, _ in needles:
        at = squeezed.find(needle[:1], max(0, len(squeezed) - len(needle) + 1))
        while 0 <= at < first:
            if needle.startswith(squeezed[at:]):
                first = at
            at = squeezed.find(needle[:1], at + 1)
    return first


def _places(content: bytes, wanted: Iterable[int]) -> Iterator[int]:
    """Where characters of the squeezed bytes are in the whole ones; `wanted` goes up."""
    words = _WORD.finditer(content)
    seen, start, end = 0, 0, 0
    for index in wanted:
        while index >= seen + end - start:
            seen += end - start
            word = next(words, None)
            if word is None:
                return
            start, end = word.span()
        yield start + index - seen


def _replace(content: bytes, spans: list[Span]) -> bytes:
    if not spans:
        return content
    edges = chain.from_iterable((start, end - 1) for start, end, _ in spans)
    places = list(_places(content, edges))
    parts, done = [], 0
    for (_, _, mask), first, last in zip(spans, places[::2], places[1::2], strict=True):
        parts += [content[done:first], mask]
        done = last + 1
    return b"".join([*parts, content[done:]])
