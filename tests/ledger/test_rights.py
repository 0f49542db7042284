"""The role of those who run agent jobs may use the journal, and nothing else of the ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flowforge import ledger
from flowforge.errors import Refused
from flowforge.ledger import rights
from flowforge.ledger.connection import transaction
from flowforge.rules.addresses import PostgresAddress
from tests.ledger.conftest import url_of


@pytest.fixture
def agent(ledger_url: str, postgres: PostgresAddress, engine: sa.Engine) -> Iterator[sa.Engine]:
    """A session of a role that was let run agent jobs."""
    with engine.begin() as owner:
        owner.execute(sa.text("DROP ROLE IF EXISTS agent_role"))
        owner.execute(sa.text("CREATE ROLE agent_role LOGIN"))
    rights.grant_jobs(ledger_url, "agent_role")
    entered = ledger.connect(url_of(postgres, user="agent_role"))
    yield entered
    entered.dispose()
    with engine.begin() as owner:
        owner.execute(sa.text("DROP OWNED BY agent_role"))
        owner.execute(sa.text("DROP ROLE agent_role"))


@pytest.mark.parametrize(
    "allowed",
    [
        "SELECT count(*) FROM flowforge.jobs",
        "DELETE FROM flowforge.events WHERE false",
        "SELECT count(*) FROM flowforge.prices",
        "UPDATE flowforge.operations SET evidence = evidence WHERE false",
    ],
)
def test_an_agent_may_use_the_journal(agent: sa.Engine, allowed: str) -> None:
    with transaction(agent) as session:
        assert session.execute(sa.text(allowed)) is not None


@pytest.mark.parametrize(
    "forbidden",
    [
        "SELECT count(*) FROM flowforge.copies",
        "SELECT count(*) FROM flowforge.proofs",
        "INSERT INTO flowforge.heartbeats (process, beat_at) VALUES ('x', now())",
        "UPDATE flowforge.prices SET source = 'free' WHERE true",
        "UPDATE flowforge.budgets SET usd_per_day = 1000000 WHERE true",
        "DELETE FROM flowforge.operations",
        "DROP TABLE flowforge.jobs",
        "CREATE TABLE flowforge.mine (id int)",
    ],
)
def test_an_agent_is_refused_everything_else(agent: sa.Engine, forbidden: str) -> None:
    with pytest.raises(Refused), transaction(agent) as session:
        session.execute(sa.text(forbidden))


def test_a_role_that_is_not_there_is_refused(ledger_url: str) -> None:
    with pytest.raises(Refused):
        rights.grant_jobs(ledger_url, "nobody_of_this_name")
