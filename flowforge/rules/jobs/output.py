"""What the model is shown of a command: harmless text, its head and its tail, and how it ended."""

from __future__ import annotations

import codecs
import re
import signal

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and moves of the cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[ -/]*[0-~]"
)
_VISIBLE = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
_VISIBLE |= {0x7F: "\u2421"} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")
_CONTINUED = bytes(range(0x80, 0xC0))
_FIRST_OF_SIGNALS = 128


def clean(content: bytes) -> str:
    """Bytes as text that does nothing to a terminal, a log or a database.

    Escapes that colour or move are left out, other control characters become their pictures, and
    what is no UTF-8 becomes a question mark in a diamond. Every end of a line is a newline.
    """
    text = content.decode(errors="replace")
    text = _ESCAPE.sub("", text)
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_VISIBLE)


def is_text(content: bytes) -> bool:
    """Whether nothing of it has to be replaced; a character cut off at the end is forgiven."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def shorten(head: bytes, tail: bytes, total: int, *, limit: int, artifact: str) -> str:
    """The beginning and the end of an output, and between them what became of the rest.

    Args:
        head: Its first bytes.
        tail: Its last bytes, of those after the head.
        total: How many bytes it has.
        limit: The most characters that are shown of it.
        artifact: The name under which people find all of it.
    """
    if total == len(head) + len(tail) and len(whole := clean(head + tail)) <= limit:
        return whole
    if total == len(head) + len(tail):
        head, tail = head + tail, head + tail
    first, last = _cut_end(head[: limit // 2]), _cut_start(tail[-(limit - limit // 2) :])
    gone = total - len(first) - len(last)
    note = f"\n… {gone} bytes left out, full output in artifact {artifact} …\n"
    return clean(first).rstrip("\n") + note + clean(last)


def how_it_ended(
    status: int, seconds: float, *, timed_out: bool, out_of_memory: bool, memory_mb: int
) -> str | None:
    """What is said of an end that is not simply good; `None` when it is."""
    if timed_out:
        return (
            f"stopped after {seconds:.0f} s with all it had started; shown is what it said by then"
        )
    if out_of_memory:
        return f"stopped with status {status} because the memory of {memory_mb} MB was used up"
    if status > _FIRST_OF_SIGNALS:
        return f"exit status {status}{_signal(status - _FIRST_OF_SIGNALS)}"
    return f"exit status {status}" if status else None


def _signal(number: int) -> str:
    try:
        return f", ended by {signal.Signals(number).name}"
    except ValueError:
        return ""


def _cut_end(content: bytes) -> bytes:
    """Without a line that is cut off, unless that is much; never with half a character."""
    at = content.rfind(b"\n", len(content) * 3 // 4)
    if at >= 0:
        return content[: at + 1]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(content)
    return content[: len(content) - len(decoder.getstate()[0])]


def _cut_start(content: bytes) -> bytes:
    at = content.find(b"\n", 0, len(content) // 4)
    return content[at + 1 :] if at >= 0 else content[:4].lstrip(_CONTINUED) + content[4:]
