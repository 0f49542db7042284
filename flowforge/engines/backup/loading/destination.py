"""The empty database a copy is loaded into."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from flowforge.engines.backup.dumping.survey import python_codec
from flowforge.engines.backup.loading import feeding, psql
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.installations import Installation
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest

INDEX_MEMORY = "256MB"


@dataclass(frozen=True)
class Destination:
    """The empty database a copy is loaded into."""

    manifest: Manifest
    installation: Installation
    address: PostgresAddress
    database: str

    def run(self, texts: Iterable[bytes]) -> None:
        """Run a text with `psql`."""
        psql.run(texts, self.manifest, self.installation, self.address, self.database)

    def enter(self) -> psycopg.Connection[Any]:
        """Open a session set up as the head of a dump does."""
        session = connection.connect(self.address, self.database)
        settings = {**psql.bulk_settings(self.manifest), "maintenance_work_mem": INDEX_MEMORY}
        settings["client_encoding"] = self.manifest.database.encoding
        feeding.prepare(session, settings)
        return session

    def raw_bytes(self, table: str | None) -> int:
        """How much text the rows of a table are."""
        return self._sizes.get(table or "", 0)

    def is_most(self, table: str | None) -> bool:
        """Whether one table is more than half of all: its indexes are worth several processes."""
        return self.raw_bytes(table) > sum(self._sizes.values()) / 2

    @functools.cached_property
    def _sizes(self) -> dict[str, int]:
        return {facts.name: facts.raw_bytes for facts in self.manifest.tables}

    def codec(self) -> str:
        """Python's name of the copy's encoding."""
        with connection.connect(self.address, self.database) as session:
            return python_codec(session, self.manifest.database.encoding)
