"""The Glue database with its tables and views, compared with their definitions in catalog.py."""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from typing import Any

from etl import publish
from etl.publish import LAST_RUN, WATERMARK
from pipeline import aws
from pipeline.settings import ServiceError, Settings
from pipeline.tables import catalog, prices, resources, sessions
from pipeline.tables.calls import call, found
from pipeline.tables.catalog import CURATED, DEAD_LETTERS, Landing, TableInput
from pipeline.tables.changes import Call, Change, differences, short
from pipeline.tables.etl_inputs import etl_tables
from pipeline.tables.lake_listing import LakeListing

# Parameters that a definition sets: one that it no longer sets is removed. Others (of the ETL, of the user) stay.
_OWN_PARAMETERS = ("projection.", "storage.location.template", "skip.header.line.count", "landing.")


class GlueTables:
    """What the database holds. Depends on how the consumer lands, so `definitions` looks at the bucket first."""

    def __init__(self, settings: Settings, *, today: date) -> None:
        self._settings, self._today = settings, today
        self._glue, self._athena = aws.client(settings, "glue"), aws.client(settings, "athena")
        self._listing = LakeListing(settings)
        self.landings: dict[str, Landing] = {}  # by record; complete once `definitions` has run

    def database(self) -> Change:
        """Return the change of the database."""
        name = self._settings.glue_database
        if found(self._glue.get_database, Name=name):
            return Change(f"database {name}", "keep")
        wanted = {"Name": name, "Description": "Stock market data: bars, ticks, news and actions"}
        create = call(self._glue, "create_database", DatabaseInput=wanted, **resources.tag_map(self._settings))
        return Change(f"database {name}", "create", calls=(create,))

    def definitions(self) -> Iterator[TableInput]:
        """Yield the tables as they should be. They depend on how the consumer lands and on the first day chosen
        before.
        """
        for record in CURATED:
            first_day = self._first_day(f"raw_{record}", self._listing.first_folder_day(record))
            self.landings[record] = self._listing.landing(record, first_day)
            yield catalog.raw_table(self._settings, record, self.landings[record])
        topics = sorted({*self._settings.topics, *self._listing.dead_letter_topics()})
        yield catalog.dead_letters(self._settings, topics, self._first_day(DEAD_LETTERS))
        yield sessions.table(self._settings)
        for record in CURATED:
            table = catalog.curated_table(self._settings, record)
            yield table | {"Parameters": table["Parameters"] | {WATERMARK: self._watermark(record)}}

    def table(self, wanted: TableInput) -> Change:
        """Return the change of one table. Raises ServiceError where a view has its name."""
        what, database = f"table {wanted['Name']}", self._settings.glue_database
        existing = self._existing(wanted["Name"])
        if existing is None:
            create = call(self._glue, "create_table", DatabaseName=database, TableInput=wanted)
            return Change(what, "create", calls=(create,))
        if existing.get("TableType") == "VIRTUAL_VIEW":
            raise ServiceError(
                f"GLUE_DATABASE={database}: {wanted['Name']} is a view, and is needed as a table; rename or drop it"
            )
        parameters = existing.get("Parameters", {})
        kept = {name: value for name, value in parameters.items() if not name.startswith(_OWN_PARAMETERS)}
        wanted = wanted | {"Parameters": kept | wanted["Parameters"]}
        why = differences(wanted, existing) + _gone(wanted["Parameters"], parameters)
        if not why:
            return Change(what, "keep")
        update = call(self._glue, "update_table", DatabaseName=database, TableInput=wanted)
        return Change(what, "update", "; ".join(why), (update,))

    def view(self, record: str) -> Change:
        """Return the change of a view of a record. Raises ServiceError where a table has its name."""
        state = self._etl_state(record) | {WATERMARK: self._watermark(record)}
        return self._replaced(record, etl_tables(self._settings, self.landings)[record].view_sql(state))

    def landed_view(self, record: str) -> Change:
        """Return the change of the view of all landed rows. Raises ServiceError where a table has its name."""
        return self._replaced(f"landed_{record}", catalog.landed_sql(self._settings, record, self.landings[record]))

    def price_view(self, name: str) -> Change:
        """Return the change of a view of prices.py. Raises ServiceError where a table has its name."""
        return self._replaced(name, prices.view_sql(self._settings, name))

    def exchanges_view(self) -> Change:
        """Return the change of the view symbol_exchanges. Raises ServiceError where a table has its name."""
        return self._replaced(sessions.SYMBOL_EXCHANGES, sessions.view_sql(self._settings))

    def _replaced(self, name: str, sql: str) -> Change:
        """Return the change of a view to this query. Raises ServiceError where a table has its name."""
        database, existing = self._settings.glue_database, self._existing(name)
        if existing and existing.get("TableType") != "VIRTUAL_VIEW":
            raise ServiceError(
                f"GLUE_DATABASE={database}: {name} is a table, and is needed as a view; rename or drop it"
            )
        if existing and existing.get("Parameters", {}).get(publish.VIEW_DEFINITION) == publish.view_mark(sql, existing):
            return Change(f"view {name}", "keep")
        address = {"database": database, "workgroup": self._settings.athena_workgroup}
        make = partial(publish.replace_view, self._glue, self._athena, **address, name=name, sql=sql)
        text = f'athena.start_query_execution CREATE OR REPLACE VIEW "{database}"."{name}" AS\n{sql}'
        calls = (Call(text, make),)
        if existing:
            return Change(f"view {name}", "update", "definition", calls)
        return Change(f"view {name}", "create", calls=calls)

    def _first_day(self, table: str, oldest_landed: str | None = None) -> str:
        """That of the settings; else the one chosen before, or a year ago, or the oldest day landed where that is
        earlier.
        """
        if self._settings.first_day:
            return self._settings.first_day
        a_year_ago = (self._today - timedelta(days=365)).isoformat()
        chosen = catalog.first_day_of(self._existing(table) or {}) or a_year_ago
        return min(chosen, oldest_landed or chosen)

    def _watermark(self, record: str) -> str:
        """As the ETL left it. Before its first run: the oldest day landed, or a week ago, since Kafka keeps records for
        a week by default, so that older ones will hardly come; were it the table's first day, every query would list a
        year of folders.
        """
        state = self._etl_state(record)
        if LAST_RUN in state:
            return state[WATERMARK]
        before = state.get(WATERMARK, (self._today - timedelta(days=7)).isoformat())
        return max(min(before, self._listing.first_folder_day(record) or before), self.landings[record].first_day)

    def _etl_state(self, record: str) -> dict[str, str]:
        state: dict[str, str] = (self._existing(f"curated_{record}") or {}).get("Parameters", {})
        return state

    def _existing(self, name: str) -> dict[str, Any] | None:
        answer = found(self._glue.get_table, DatabaseName=self._settings.glue_database, Name=name)
        return answer["Table"] if answer else None


def _gone(wanted: dict[str, str], existing: dict[str, str]) -> list[str]:
    return [f"Parameters.{name}: {short(value)} -> none" for name, value in existing.items() if name not in wanted]
