"""Which FlowForge is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowforge.client import find_environment
from flowforge.errors import Refused

PROFILES = """
active = "quiet"
[profiles.quiet]
PREFECT_LOGGING_LEVEL = "INFO"
[profiles.staging]
PREFECT_API_URL = "https://flowforge.staging.example/api"
PREFECT_API_AUTH_STRING = "ops:a:b"
PREFECT_UI_URL = "https://flowforge.staging.example/v2"
"""


def write_profiles(tmp_path: Path, text: str = PROFILES) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect/profiles.toml").write_text(text)


def write_state(tmp_path: Path, host: str = "127.0.0.1") -> None:
    (tmp_path / "state").mkdir()
    state = {"version": 1, "host": host, "ports": {"api": 8085, "ui": 3005}}
    (tmp_path / "state/state.json").write_text(json.dumps(state))


def test_port_8080_of_this_machine_is_meant_when_nothing_says_otherwise() -> None:
    found = find_environment()
    assert found.api_url == "http://127.0.0.1:8080/api"
    assert found.own_url == "http://127.0.0.1:8080/ff/v1"
    assert found.run_url("r") == "http://127.0.0.1:8080/v2/runs/flow-run/r"
    assert found.is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
def test_the_platform_of_this_machine_is_found_by_its_state(tmp_path: Path, host: str) -> None:
    write_state(tmp_path, host)
    found = find_environment()
    assert found.api_url == "http://127.0.0.1:8085/api"
    assert found.run_url("r") == "http://127.0.0.1:3005/v2/runs/flow-run/r"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ports": {}}', '{"ports": null}'])
def test_a_state_that_says_no_ports_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/state.json").write_text(text)
    assert find_environment().api_url == "http://127.0.0.1:8080/api"


@pytest.mark.parametrize("name", ["FLOWFORGE_API_URL", "PREFECT_API_URL"])
def test_the_environment_wins_over_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_state(tmp_path)
    monkeypatch.setenv(name, "http://10.1.2.3:9000/api/")
    assert find_environment().api_url == "http://10.1.2.3:9000/api"


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWFORGE_API_URL", "http://10.1.2.3:9000/api")
    assert find_environment("http://10.9.9.9:1").api_url == "http://10.9.9.9:1/api"


def test_a_named_profile_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profiles(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "http://10.1.2.3:9000/api")
    found = find_environment(profile="staging")
    assert found.api_url == "https://flowforge.staging.example/api"
    assert found.credentials == ("ops", "a:b")
    assert found.run_url("r") == "https://flowforge.staging.example/v2/runs/flow-run/r"
    assert not found.is_loopback


def test_a_profile_named_by_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profiles(tmp_path)
    write_state(tmp_path)
    monkeypatch.setenv("PREFECT_PROFILE", "staging")
    assert find_environment().api_url == "https://flowforge.staging.example/api"


def test_the_active_profile_is_used_where_no_platform_lives(tmp_path: Path) -> None:
    write_profiles(tmp_path, PROFILES.replace('active = "quiet"', 'active = "staging"'))
    assert find_environment().api_url == "https://flowforge.staging.example/api"


@pytest.mark.parametrize(
    ("profile", "hint"), [("nowhere", "Known are: quiet, staging."), ("quiet", "prefect -p quiet")]
)
def test_a_profile_that_leads_nowhere_is_refused(tmp_path: Path, profile: str, hint: str) -> None:
    write_profiles(tmp_path)
    with pytest.raises(Refused) as refused:
        find_environment(profile=profile)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "address", ["8080", "ftp://x/api", "http://", "http://u:secret@host/api", "http://h:nan/api"]
)
def test_what_is_no_address_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(Refused) as refused:
        find_environment(address)
    assert "secret" not in str(refused.value)


def test_credentials_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ops:hush")
    found = find_environment()
    assert found.credentials == ("ops", "hush")
    assert "hush" not in repr(found)
