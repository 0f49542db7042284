"""Sandbox profiles are saved, shown with what this machine can make of them, and tried."""

from __future__ import annotations

import pytest

from flowforge.engines.sandboxes.local import LocalProvider
from tests.cli.conftest import Command
from tests.ports import free_port


@pytest.mark.slow
def test_a_profile_that_cannot_be_meant_is_refused_by_its_field(connected: Command) -> None:
    said = connected("sandbox", "add", "boxes", "--kind", "local", "--namespace", "jobs")
    assert said.code == 3
    assert "namespace is for kubernetes sandboxes" in said.err
    assert "flowforge sandbox add --help" in said.err


@pytest.mark.slow
def test_a_profile_is_saved_listed_tried_and_removed(connected: Command) -> None:
    engine = f"tcp://127.0.0.1:{free_port()}"
    options = ("--engine", engine, "--cpus", "2", "--egress", "lib.example", "--json")
    added = connected("sandbox", "add", "boxes", "--kind", "docker", *options)
    assert added.json["action"] == "created"
    try:
        listed = {
            one["name"]: one for one in connected("sandbox", "list", "--json").json["profiles"]
        }
        assert sorted(listed) == ["boxes", "default"]
        assert (listed["boxes"]["cpus"], listed["boxes"]["egress"]) == (2.0, ["lib.example"])
        assert not listed["boxes"]["here"]
        assert "apt install docker.io" in listed["boxes"]["why_not"]["hint"]
        assert "boxes  -> Start it" in connected("sandbox", "list").out
        tried = connected("sandbox", "test", "boxes")
        assert (tried.code, "does not answer" in tried.err) == (1, True)
    finally:
        assert connected("sandbox", "remove", "boxes").code == 0


@pytest.mark.slow
def test_the_profile_that_needs_no_document_is_tried_on_this_machine(connected: Command) -> None:
    if why := LocalProvider().why_not():
        pytest.skip(str(why))
    said = connected("sandbox", "test", "default", "--json")
    assert said.json["ok"], said.err
    assert said.json["says"].startswith("Linux")
    assert said.json["open_seconds"] > 0
