"""A secret that something printed is masked, however it is written and wherever it is cut."""

from __future__ import annotations

import base64
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowforge.engines.agent.redaction import Redactor
from flowforge.errors import Refused

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
ODD = 'p@ss "wörd" /+%\\ & more~words'
KEY = "-----BEGIN KEY-----\n" + "\n".join(f"{n}abcdefghijklmnop+/{n}" * 3 for n in range(6)) + "\n"
SECRETS = {"forge": TOKEN, "odd": ODD, "key": KEY}

ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: value,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 after one byte": lambda value: base64.b64encode(b"x" + value.encode() + b"y").decode(),
    "base64 after two": lambda value: base64.b64encode(b"a:" + value.encode() + b"yz").decode(),
    "base64 for addresses": lambda value: base64.urlsafe_b64encode(b">" + value.encode()).decode(),
    "base64 in lines": lambda value: base64.encodebytes(b"user:" + value.encode()).decode(),
    "hexadecimal": lambda value: value.encode().hex(),
    "in capitals": lambda value: value.encode().hex().upper(),
    "hexadecimal in pairs": lambda value: value.encode().hex(" "),
    "percent-encoded": lambda value: quote(value, safe=""),
    "as a path": quote,
    "as a form": quote_plus,
    "JSON": json.dumps,
    "JSON with all characters": lambda value: json.dumps(value, ensure_ascii=False),
    "wrapped": lambda value: "\r\n".join(value[n : n + 7] for n in range(0, len(value), 7)),
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_in_every_form_and_at_every_cut(secret: str, name: str) -> None:
    written = ENCODINGS[name](SECRETS[secret])
    said = f"before {written} after".encode()
    redactor = Redactor(SECRETS)
    whole = redactor.data(said)
    assert whole.startswith(b"before ")
    assert whole.endswith(b" after")
    assert f"[secret {secret}]".encode() in whole
    assert len(whole) < len(f"before [secret {secret}] after") + 12  # base64 leaves an edge
    for cut in range(0, len(said), 1 + len(said) // 300):
        stream = redactor.stream()
        pieces = stream.feed(said[:cut]) + stream.feed(said[cut:]) + stream.end()
        assert pieces == whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*SECRETS.values(), "x", " ", "\n", "ghp_", "é"])), st.data())
def test_pieces_of_any_size_give_what_the_whole_gives(
    parts: list[str], data: st.DataObject
) -> None:
    said = "".join(parts)
    redactor, stream = Redactor(SECRETS), Redactor(SECRETS).stream()
    shown = []
    while said:
        size = data.draw(st.integers(1, len(said)))
        shown.append(stream.feed_text(said[:size]))
        said = said[size:]
    text = "".join([*shown, stream.end_text()])
    assert text == redactor.text("".join(parts))
    assert not any(value.strip() in text for value in SECRETS.values())


def test_text_without_a_secret_is_shown_as_it_is_and_nearly_at_once() -> None:
    stream = Redactor(SECRETS).stream()
    said = ["Hello", " wörld\n", "\x00\x1b[31m", "ghp_16C7 is no secret"] * 3
    shown = [stream.feed_text(piece) for piece in said]
    assert "".join([*shown, stream.end_text()]) == "".join(said)
    assert all(len("".join(said[:n])) - len("".join(shown[:n])) < 3 for n in range(len(said)))


def test_a_part_of_a_key_is_masked() -> None:
    second_line = KEY.splitlines()[2]
    assert Redactor(SECRETS).text(f"head: {second_line}") == "head: [secret key]"


def test_what_begins_like_a_secret_waits_and_is_not_lost() -> None:
    stream = Redactor(SECRETS).stream()
    assert stream.feed_text("say ghp_16C7e4") == "say "
    assert stream.feed_text("!") == "ghp_16C7e4!"


def test_white_space_without_end_is_not_waited_for() -> None:
    stream = Redactor(SECRETS).stream()
    shown = sum(len(stream.feed(b"ghp_16" if n == 0 else b"\n" * 10_000)) for n in range(50))
    assert shown > 400_000


def test_a_file_gets_only_what_is_masked(tmp_path: Path) -> None:
    place = tmp_path / "output"
    with Redactor(SECRETS).file(place) as file:
        assert file.write(b"x " + TOKEN[:9].encode()) == 11
        file.flush()
        assert TOKEN[:9].encode() not in place.read_bytes()
        file.write(TOKEN[9:].encode() + b" ghp_")
    assert place.read_bytes() == b"x [secret forge] ghp_"


def test_a_short_secret_is_refused_without_its_value() -> None:
    with pytest.raises(Refused) as refused:
        Redactor({"pin": "12 345"})
    assert "'pin'" in str(refused.value)
    assert "345" not in repr(refused.value)


def test_a_redactor_shows_and_stores_no_secret() -> None:
    redactor = Redactor(SECRETS)
    assert TOKEN not in repr(redactor)
    with pytest.raises(TypeError):
        pickle.dumps(redactor)


def test_fifty_megabytes_take_less_than_a_second() -> None:
    stream = Redactor({"forge": TOKEN, "other": "s3cr3t-" * 5}).stream()
    chunk = base64.b64encode(bytes(range(256)) * 192) + b"\n" + b"a plain line of output\n" * 1000
    chunk = chunk * 4
    started, size = time.process_time(), 0
    while size < 50_000_000:
        size += len(chunk)
        stream.feed(chunk)
    assert time.process_time() - started < 1
