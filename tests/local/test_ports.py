from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from flowforge.errors import Refused
from flowforge.local import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_port_somebody_listens_on_is_not_free(taken: int) -> None:
    assert not ports.is_free(taken)
    assert ports.is_free(_free())


def test_a_listener_on_every_interface_takes_the_port_on_loopback_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        assert not ports.is_free(listener.getsockname()[1])


def test_whoever_holds_a_port_is_named(taken: int) -> None:
    assert str(os.getpid()) in ports.describe_holder(taken)


def test_a_taken_port_that_was_demanded_is_refused_naming_the_holder(taken: int) -> None:
    with pytest.raises(Refused, match=f"{taken}.*pid {os.getpid()}") as refused:
        ports.choose_ports("127.0.0.1", {"ui": taken}, {})
    assert "FLOWFORGE_UI_PORT" in refused.value.hint


def test_a_taken_port_is_replaced_by_the_next_free_one_and_said_so(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "DEFAULTS", {"api": taken})
    choice = ports.choose_ports("127.0.0.1", {}, {})
    assert choice.ports["api"] > taken
    [note] = choice.notes
    assert f"port {taken} is taken by" in note
    assert str(choice.ports["api"]) in note


def test_ports_of_the_last_time_are_kept_while_they_are_free(taken: int) -> None:
    remembered = {"api": _free(), "ui": taken}
    choice = ports.choose_ports("127.0.0.1", {}, remembered)
    assert choice.ports["api"] == remembered["api"]
    assert choice.ports["ui"] != taken


def test_every_listener_has_a_port_of_its_own() -> None:
    fixed = {"metrics": _free(), "postgres": None}
    chosen = ports.choose_ports("127.0.0.1", fixed, {"api": _free()}).ports
    assert chosen["metrics"] == fixed["metrics"]
    assert len(set(chosen.values())) == len(ports.DEFAULTS)


def test_two_demands_for_one_port_are_refused() -> None:
    port = _free()
    with pytest.raises(Refused, match="asks for too"):
        ports.choose_ports("127.0.0.1", {"api": port, "ui": port}, {})


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(Refused, match="is not a port"):
        ports.choose_ports("127.0.0.1", {"api": port}, {})


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(Refused, match="Nothing can listen") as refused:
        ports.choose_ports("192.0.2.1", {}, {})
    assert "FLOWFORGE_HOST" in refused.value.hint
