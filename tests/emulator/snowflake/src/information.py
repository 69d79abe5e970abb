"""INFORMATION_SCHEMA: the views that setup and checks ask, as rows of the moment."""

from sqlglot import exp

from names import shown
from sqlerrors import missing


def _tables(session):
    columns = [
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "TABLE_OWNER",
        "TABLE_TYPE",
        "IS_TRANSIENT",
        "COMMENT",
        "IS_HYBRID",
    ]
    rows = [
        [*table.name, table.owner, "BASE TABLE", "NO", table.comment, "YES" if table.hybrid else "NO"]
        for table in session.catalog.tables.values()
        if session.sees("TABLE", table.name)
    ]
    return columns, rows


# DATA_TYPE is another word for these.
_DATA_TYPES = {"VARCHAR": "TEXT"}


def _columns(session):
    columns = [
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "COLUMN_NAME",
        "ORDINAL_POSITION",
        "COLUMN_DEFAULT",
        "IS_NULLABLE",
        "DATA_TYPE",
        "CHARACTER_MAXIMUM_LENGTH",
        "NUMERIC_PRECISION",
        "NUMERIC_SCALE",
        "DATETIME_PRECISION",
        "COMMENT",
    ]
    rows = []
    for table in session.catalog.tables.values():
        if not session.sees("TABLE", table.name):
            continue
        for place, one in enumerate(table.columns, 1):
            number = one.kind == "NUMBER"
            rows.append(
                [
                    *table.name,
                    one.name,
                    place,
                    one.default,
                    "YES" if one.nullable else "NO",
                    _DATA_TYPES.get(one.kind, one.kind),
                    one.length,
                    one.precision if number else None,
                    one.scale if number else None,
                    None if number else one.precision,
                    one.comment,
                ]
            )
    return columns, rows


def _constraints(session):
    columns = [
        "CONSTRAINT_CATALOG",
        "CONSTRAINT_SCHEMA",
        "CONSTRAINT_NAME",
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "CONSTRAINT_TYPE",
        "ENFORCED",
    ]
    rows = [
        [*table.name[:2], "SYS_CONSTRAINT_PK", *table.name, "PRIMARY KEY", "YES" if table.hybrid else "NO"]
        for table in session.catalog.tables.values()
        if table.key and session.sees("TABLE", table.name)
    ]
    return columns, rows


def _pipes(session):
    columns = ["PIPE_CATALOG", "PIPE_SCHEMA", "PIPE_NAME", "PIPE_OWNER", "DEFINITION"]
    rows = [
        [*pipe.name, pipe.owner, pipe.definition]
        for pipe in session.catalog.pipes.values()
        if pipe.custom and session.sees("PIPE", pipe.name)
    ]
    return columns, rows


VIEWS = {"TABLES": _tables, "COLUMNS": _columns, "TABLE_CONSTRAINTS": _constraints, "PIPES": _pipes}


def relation(session, name, alias):
    """A view of INFORMATION_SCHEMA as a relation that has its rows in it. Only those of its database are told."""
    if name[2] not in VIEWS:
        raise missing("Object", shown(*name))
    session.need_schema(name)
    columns, rows = VIEWS[name[2]](session)
    rows = [row for row in rows if row[0] == name[0]]
    values = exp.values([tuple(row) for row in rows or [[None] * len(columns)]], alias="V", columns=columns)
    query = exp.select("*").from_(values)
    if not rows:
        query = query.where("FALSE")
    return query.subquery(alias)
