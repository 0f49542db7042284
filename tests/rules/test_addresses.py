from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.addresses import parse_postgres_url
from flowforge.rules.restores import kept_database, side_database


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg"]
)
def test_every_spelling_of_the_scheme_is_read(scheme: str) -> None:
    address = parse_postgres_url(f"{scheme}://u:p@db.example:6543/app", name="shop")
    assert (address.host, address.port, address.user, address.database) == (
        "db.example",
        6543,
        "u",
        "app",
    )


@given(st.text(min_size=1).filter(lambda t: "\0" not in t and t.isprintable()))
def test_any_password_and_database_name_comes_through(odd: str) -> None:
    url = f"postgresql://u:{quote(odd, safe='')}@h/{quote(odd, safe='')}"
    address = parse_postgres_url(url, name="shop")
    assert address.password.get_secret_value() == odd
    assert address.database == odd


def test_socket_folders_options_and_asyncpg_s_ssl_are_read() -> None:
    address = parse_postgres_url("postgresql://u@/d?host=/run/pg&port=7&ssl=true", name="s")
    assert (address.host, address.port, address.options) == ("/run/pg", 7, {"sslmode": "require"})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://u:hunter2@h/d",
        "postgresql://:hunter2@h/d",
        "postgresql://u:hunter2@a,b/d",
        "postgresql://u:hunter2@h:port/d",
        "postgresql://u:hunter2@h/d?surprise=1",
    ],
)
def test_what_is_not_one_server_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_postgres_url(url, name="shop")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["shop", "a", "shop-2", "0"])
def test_names_of_systems_are_short_and_plain(name: str) -> None:
    assert names.check_system_name(name) == name


@pytest.mark.parametrize("name", ["", "Shop", "a b", "-a", "a-", "é", "x" * 64, "a/b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(Refused, match="lowercase"):
        names.check_system_name(name)


@pytest.mark.parametrize("text", ["postgresql://u:hunter2@h/d", "host=h password=hunter2"])
def test_an_address_with_a_password_is_no_name(text: str) -> None:
    with pytest.raises(Refused, match="flowforge database add") as refused:
        names.check_system_name(text)
    assert "hunter2" not in str(refused.value)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_prefix_says_whose_copies_lie_there(server: str, database: str) -> None:
    key = names.data_key(server, database, "backup-20261124-060000")
    assert names.parse_prefix(key) == (server, database)
    assert key.count("/") == 3
    assert ".." not in key.split("/")


@given(st.text(min_size=1).filter(lambda t: "\0" not in t and len(t.encode()) <= 63))
def test_derived_database_names_fit_whatever_the_original_is(database: str) -> None:
    side = side_database(database, "backup-20261124-060000")
    kept = kept_database(database, "backup-20261124-060000", 4294967295)
    assert len(side.encode()) <= 63
    assert len(kept.encode()) <= 63
    assert side != kept
