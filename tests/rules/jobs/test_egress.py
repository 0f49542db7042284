"""Which hosts a job may reach."""

from __future__ import annotations

import pytest

from flowforge.rules.jobs.egress import is_allowed, is_public

HOSTS = ("lib.example", "files.example.org:8443", "*.mirror.example")


@pytest.mark.parametrize(
    ("name", "port", "allowed"),
    [
        ("lib.example", 443, True),
        ("Lib.Example.", 443, True),
        ("lib.example", 80, False),
        ("evil.lib.example", 443, False),
        ("lib.example.evil.net", 443, False),
        ("notlib.example", 443, False),
        ("files.example.org", 8443, True),
        ("files.example.org", 443, False),
        ("a.mirror.example", 443, True),
        ("a.b.mirror.example", 443, True),
        ("mirror.example", 443, False),
        ("evilmirror.example", 443, False),
        ("", 443, False),
    ],
)
def test_a_host_is_allowed_by_its_exact_name_and_port(name: str, port: int, allowed: bool) -> None:
    assert is_allowed(HOSTS, name, port) is allowed


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fe80::1%eth0", "fd00::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::a00:1", "::"),
    ],
)
def test_private_addresses_are_not_public_in_any_disguise(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)
