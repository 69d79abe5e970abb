"""Databases, schemas, tables and pipes: what they are called and made of. Rows are in `commits` and in `engine`."""

import math
import time

from messages import Refusal
from rows import Mapping

STREAMING_SUFFIX = "-STREAMING"


class Table:
    def __init__(self, name, columns, key=(), hybrid=False, owner="ACCOUNTADMIN", comment=""):
        self.name, self.key, self.hybrid, self.owner = tuple(name), list(key), hybrid, owner
        self.comment, self.created = comment, time.time()
        self.change(columns)
        # When a write began of which queries may not know yet; monotonic, in seconds.
        self.written = -math.inf
        # Appends that are committed, in order, and how many of them the SQL engine has.
        self.commits, self.loaded = [], 0

    def change(self, columns):
        """Gives it these columns."""
        self.columns = columns
        self._by_name = {column.name: column for column in columns}

    def column(self, name):
        if name not in self._by_name:
            raise Refusal("000904", f"SQL compilation error:\ninvalid identifier '{name}'")
        return self._by_name[name]


class Pipe:
    def __init__(self, name, table, fields=None, definition="", owner=None):
        self.name, self.table, self.owner = tuple(name), table, owner
        self.fields, self.definition, self.created = fields, definition, time.time()
        self.mapping = Mapping(table, fields)
        self.channels = {}
        # The channel that has no tokens, once somebody asked for it.
        self.elastic = None

    def forget_channels(self):
        """It is gone, or another one: nothing that waits is committed any more."""
        for channel in list(self.channels.values()):
            channel.forget()
        if self.elastic:
            self.elastic.discard()

    @property
    def custom(self):
        return self.owner is not None


class Catalog:
    def __init__(self):
        # By name: (database,), (database, schema) and (database, schema, object).
        self.databases, self.schemas, self.tables, self.pipes = {}, {}, {}, {}
        self.warehouses = {}

    def add_database(self, name):
        self.databases[name,] = time.time()
        for schema in ("PUBLIC", "INFORMATION_SCHEMA"):
            self.schemas[name, schema] = time.time()

    def drop(self, kind, name):
        """Takes away an object with all that is in it."""
        name = tuple(name)
        if kind in ("DATABASE", "SCHEMA"):
            for held in (self.databases, self.schemas, self.tables, self.pipes):
                for one in [one for one in held if one[: len(name)] == name]:
                    del held[one]
        elif kind == "TABLE":
            table = self.tables.pop(name)
            for one in [one for one, pipe in self.pipes.items() if pipe.table is table]:
                del self.pipes[one]
        else:
            del self.pipes[name]

    def pipe(self, name):
        """The pipe of this name; the default pipe of a table comes about when it is first asked for."""
        name = tuple(name)
        if name not in self.pipes and name[2].endswith(STREAMING_SUFFIX):
            table = self.tables.get((*name[:2], name[2].removesuffix(STREAMING_SUFFIX)))
            if table and not table.hybrid:
                self.pipes[name] = Pipe(name, table)
        return self.pipes.get(name)

    def table_changed(self, table):
        """The columns of a table are others: so are the mappings of its pipes."""
        for pipe in self.pipes.values():
            if pipe.table is table:
                pipe.mapping = Mapping(table, pipe.fields)
