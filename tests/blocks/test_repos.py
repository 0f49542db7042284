"""Access to private repositories as a document: saved, tried, and given to its own host alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blocks import GitRepository, checks, documents, lookup
from flowforge import prefect_api
from flowforge.engines.agent.sources_access import KeyAccess, TokenAccess
from flowforge.errors import Refused
from tests.engines.agent.git_host import TOKEN, host
from tests.engines.agent.repositories import git, repository


def test_an_access_is_saved_tried_and_found_without_its_token_being_shown(
    prefect_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    made = repository(tmp_path / "origin", {"a": b"1\n"})
    with host(tmp_path) as forge, prefect_api.connect() as client:
        url = f"{forge.url}/origin/.git"
        wanted = documents.read_request({"repos": {"forge": {"token": TOKEN, "url": url}}})
        assert [one.action for one in documents.apply(client, wanted)] == ["created"]
        block = documents.read_one(client, "repo", "forge")
        assert isinstance(block, GitRepository)
        found = checks.check_repo("forge", block)
        assert (found["commit"], found["problems"]) == (git(made, "rev-parse", "HEAD"), [])
        access = lookup.find_git_access("forge")
        assert access == TokenAccess(TOKEN, place=forge.url.removeprefix("http://"))
        shown = [documents.where(block), documents.fields_without_secrets(block), found]
        assert TOKEN not in json.dumps(shown)
        documents.remove(client, "repo", "forge")
        with pytest.raises(Refused) as refused:
            lookup.find_git_access("forge")
        assert refused.value.hint == "Register it with `flowforge repo add forge`."


def test_what_opens_nothing_or_shows_a_password_is_refused() -> None:
    with pytest.raises(Refused, match="neither a token nor a key"):
        GitRepository().access("forge")
    with pytest.raises(Refused, match="without a password") as refused:
        documents.read_block("repo", "forge", {"token": "x", "url": "https://me:hush@a.com/x"})
    assert "hush" not in str(refused.value)
    key = GitRepository.model_validate({"private_key": "k", "known_hosts": "h"})
    assert key.access("forge") == KeyAccess("k", "h")
    with pytest.raises(Refused, match="none to ask"):
        checks.check_repo("forge", key)
