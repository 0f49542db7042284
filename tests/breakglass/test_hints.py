"""A hint can be followed by somebody who has no server."""

from __future__ import annotations

import pytest

from flowforge.breakglass.hints import without_a_server


@pytest.mark.parametrize(
    ("engine", "here"),
    [
        ("Save the pair again with `flowforge store add x --key-id-env V`.", "AWS_ACCESS_KEY_ID"),
        ("Save the right URL with `flowforge database add target`.", "--url-env"),
        ("Give a recovery key: `flowforge key add NAME`.", "--key"),
        ("`flowforge backup list shop` shows the copies there are.", "`list`"),
    ],
)
def test_what_would_be_saved_is_told_where_it_is_given(engine: str, here: str) -> None:
    assert here in without_a_server(engine)
    assert "`flowforge" not in without_a_server(engine)


def test_any_other_hint_stays_as_it_is() -> None:
    assert without_a_server("Free the disk.") == "Free the disk."
