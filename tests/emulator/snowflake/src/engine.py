"""The SQL engine: DuckDB, in memory, with a database for each of the account's.

Everything here runs on one thread at a time (`lock`), as the locks of standard tables have it.
"""

import asyncio
import time
from contextlib import suppress

import duckdb

from columns import JSON_KINDS
from names import quote
from rows import MISSING, lines

_TYPES = {
    "FLOAT": "DOUBLE",
    "VARCHAR": "VARCHAR",
    "BINARY": "BLOB",
    "BOOLEAN": "BOOLEAN",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP_NTZ": "TIMESTAMP",
    "TIMESTAMP_LTZ": "TIMESTAMPTZ",
    "TIMESTAMP_TZ": "TIMESTAMPTZ",
    **dict.fromkeys(JSON_KINDS, "JSON"),
}
# Functions of Snowflake that sqlglot leaves as they are.
MACROS = """
CREATE MACRO TO_TIMESTAMP_NTZ(x) AS CAST(x AS TIMESTAMP);
CREATE MACRO TO_TIMESTAMP_LTZ(x) AS CAST(x AS TIMESTAMPTZ);
CREATE MACRO TO_TIMESTAMP_TZ(x) AS CAST(x AS TIMESTAMPTZ);
CREATE MACRO TO_VARIANT(x) AS to_json(x);
"""
# Rows that are loaded at once.
CHUNK = 20000


class Engine:
    def __init__(self, settings):
        self._settings = settings
        self.connection = duckdb.connect(config={"threads": 2})
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute(MACROS)
        self.lock = asyncio.Lock()

    def add_database(self, name):
        self.connection.execute(f"ATTACH ':memory:' AS {quote(name)}")
        self.add_schema((name, "PUBLIC"))

    def add_schema(self, name):
        # `public` is nobody's in DuckDB, and `information_schema` is its own.
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(*name)}")

    def drop(self, kind, name):
        if kind == "DATABASE":
            self.connection.execute(f"DETACH {quote(*name)}")
        elif kind in ("SCHEMA", "TABLE"):
            self.connection.execute(f"DROP {kind} {quote(*name)} CASCADE")

    def add_table(self, table, defaults):
        """Makes a table. `defaults` are the columns' default expressions, in the engine's SQL."""
        parts = [column_definition(column, defaults.get(column.name)) for column in table.columns]
        # On a standard table a primary key is a remark.
        if table.hybrid and table.key:
            parts.append(f"PRIMARY KEY ({', '.join(quote(name) for name in table.key)})")
        self.connection.execute(f"CREATE TABLE {quote(*table.name)} ({', '.join(parts)})")

    def add_column(self, table, column):
        """Adds a column without its constraints, which the engine cannot add."""
        self.connection.execute(
            f"ALTER TABLE {quote(*table.name)} ADD COLUMN {quote(column.name)} {engine_type(column)}"
        )

    def drop_column(self, table, name):
        self.connection.execute(f"ALTER TABLE {quote(*table.name)} DROP COLUMN {quote(name)}")

    def roll_back(self):
        """Ends a transaction that is still open."""
        with suppress(duckdb.TransactionException):
            self.connection.execute("ROLLBACK")

    def remember(self, table):
        """Keeps a hybrid table as it is before a write, for the queries that do not know of that yet."""
        if table.hybrid and self._settings.stale_reads_ms and not self.is_stale(table):
            self.connection.execute(f"CREATE OR REPLACE TABLE {quote(*past(table))} AS FROM {quote(*table.name)}")
            table.written = time.monotonic()

    def is_stale(self, table):
        """Whether queries find the table as it was before the last writes."""
        return time.monotonic() - table.written < self._settings.stale_reads_ms / 1000

    def load(self, table):
        """Brings to the engine what was committed to a table since it was last asked."""
        while table.loaded < len(table.commits):
            append = table.commits[table.loaded]
            mapping = append.mapping
            good = [line for number, line in enumerate(lines(append.unpacked())) if number not in append.refused]
            for at in range(0, len(good), CHUNK):
                self._insert(table, mapping.columns, [mapping.values(line) for line in good[at : at + CHUNK]])
            table.loaded += 1

    def _insert(self, table, columns, rows):
        """Inserts converted rows, those together that give the same columns."""
        groups = {}
        for row in rows:
            groups.setdefault(tuple(value is not MISSING for value in row), []).append(row)
        for given, group in groups.items():
            places = [place for place, one in enumerate(given) if one]
            if not places:
                for _ in group:
                    self.connection.execute(f"INSERT INTO {quote(*table.name)} DEFAULT VALUES")
                continue
            names = ", ".join(quote(columns[place].name) for place in places)
            casts = ", ".join(f"CAST(c{place} AS {engine_type(columns[place])})" for place in places)
            lists = ", ".join(f"unnest(CAST(? AS VARCHAR[])) AS c{place}" for place in places)
            sql = f"INSERT INTO {quote(*table.name)} ({names}) SELECT {casts} FROM (SELECT {lists})"
            self.connection.execute(sql, [[row[place] for row in group] for place in places])


def past(table):
    """The name of the table that has what was in another."""
    return (*table.name[:2], f"{table.name[2]} as it was")


def engine_type(column):
    if column.kind == "NUMBER":
        return f"DECIMAL({column.precision},{column.scale})"
    return _TYPES[column.kind]


def column_definition(column, default):
    parts = [quote(column.name), engine_type(column)]
    if not column.nullable:
        parts.append("NOT NULL")
    if default is not None:
        parts.append(f"DEFAULT {default}")
    if column.kind == "VARCHAR":
        parts.append(f"CHECK (length({quote(column.name)}) <= {column.length})")
    return " ".join(parts)
