"""Makes the Glue and Athena side of the lake: reads what exists, compares it with the definition, creates or updates
what differs.

Every part is a Change that says what it would do before it does it, so that creating, `--dry-run` and `show` walk over
the same parts. The next run completes a walk that ended with an error.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

from pipeline.settings import Settings
from pipeline.tables.bucket_rules import bucket_changes
from pipeline.tables.catalog import CURATED, TableInput
from pipeline.tables.changes import Change
from pipeline.tables.glue_tables import GlueTables
from pipeline.tables.machinery import Machinery
from pipeline.tables.prices import PRICE_VIEWS
from pipeline.tables.sessions import session_changes
from pipeline.tables.tagging import tag_changes
from pipeline.tables.workgroups import saved_query_changes, workgroup_changes


class Provision:
    """The parts of the lake, in the order in which they need each other."""

    def __init__(self, settings: Settings, *, today: date, with_roles: bool = False) -> None:
        self._settings, self._today = settings, today
        self._tables = GlueTables(settings, today=today)
        self._machinery = Machinery(settings, with_roles=with_roles)

    @property
    def missing_role_policy(self) -> dict[str, Any] | None:
        """The policy of a role that is needed, does not exist and was not to be made; known after the walk."""
        return self._machinery.missing_role_policy

    def tables(self) -> Iterator[TableInput]:
        """Yield the definitions of the tables."""
        return self._tables.definitions()

    def changes(self) -> Iterator[Change]:
        """Yield each part as it is found; the caller carries out a change before it asks for the next."""
        yield from bucket_changes(self._settings)
        yield self._tables.database()
        for table in self.tables():
            yield self._tables.table(table)
        yield from session_changes(self._settings, today=self._today)
        yield from workgroup_changes(self._settings)
        for record in CURATED:
            yield self._tables.view(record)
            yield self._tables.landed_view(record)
        for name in PRICE_VIEWS:
            yield self._tables.price_view(name)
        yield self._tables.exchanges_view()
        yield from saved_query_changes(self._settings)
        yield from self._machinery.changes(self._tables.landings)
        yield from tag_changes(self._settings)

    def shown(self) -> Iterator[Change]:
        """Yield what decides which records are shown: the views, and what the ETL job is given."""
        list(self.tables())  # looks at the bucket
        for record in CURATED:
            yield self._tables.view(record)
        yield from self._machinery.script_files(self._tables.landings)
