"""CREATE TABLE and CREATE PIPE."""

import re

from sqlglot import exp
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from catalog import Pipe, Table
from columns import JSON_KINDS, LONGEST_TEXT, Column
from names import NAME, PART, resolve, shown
from queries import expression
from results import Result
from script import Statement, parse
from sqlerrors import Failed, exists, unsupported

TABLE = re.compile(
    rf"(?P<create>CREATE\s+(?P<replace>OR\s+REPLACE\s+)?)(?P<hybrid>HYBRID\s+)?(?:TRANSIENT\s+)?(?P<rest>TABLE\s+(?P<unless>IF\s+NOT\s+EXISTS\s+)?(?P<name>{NAME}).*)",
    re.I | re.S,
)
PIPE = re.compile(
    rf"CREATE\s+(?P<replace>OR\s+REPLACE\s+)?PIPE\s+(?P<unless>IF\s+NOT\s+EXISTS\s+)?(?P<name>{NAME})\s+(?:COMMENT\s*=\s*'[^']*'\s+)?AS\s+(?P<definition>COPY\s+INTO\s+(?P<table>{NAME})\s*(?:\((?P<columns>[^)]*)\))?\s*FROM\s*\(\s*SELECT\s+(?P<list>.*?)\s+FROM\s+TABLE\s*\(\s*DATA_SOURCE\s*\(\s*TYPE\s*=>\s*'STREAMING'\s*\)\s*\)\s*\)(?P<options>.*))$",
    re.I | re.S,
)
_FIELD = re.compile(r'\$1:(?:(?P<quoted>"(?:[^"]|"")+")|(?P<plain>\w+))(?:::[\w(), ]+)?(?:\s+(?:AS\s+)?\w+)?', re.I)

_DEFAULT_PRECISION = {"TIME": 9, "TIMESTAMP_NTZ": 9, "TIMESTAMP_LTZ": 9, "TIMESTAMP_TZ": 9}
_KINDS = {
    **dict.fromkeys(("DECIMAL", "INT", "BIGINT", "SMALLINT", "TINYINT"), "NUMBER"),
    **dict.fromkeys(("DOUBLE", "FLOAT"), "FLOAT"),
    **dict.fromkeys(("VARCHAR", "TEXT", "CHAR"), "VARCHAR"),
    **dict.fromkeys(("BINARY", "VARBINARY"), "BINARY"),
    **dict.fromkeys(("BOOLEAN", "DATE", "TIME", *JSON_KINDS)),
    "TIMESTAMP": "TIMESTAMP_NTZ",
    "DATETIME": "TIMESTAMP_NTZ",
    "TIMESTAMPNTZ": "TIMESTAMP_NTZ",
    "TIMESTAMPLTZ": "TIMESTAMP_LTZ",
    "TIMESTAMPTZ": "TIMESTAMP_TZ",
}


def create_table(found, session, engine):
    catalog, name = session.catalog, session.full(found["name"])
    session.need_schema(name)
    if name in catalog.tables and not found["replace"]:
        if found["unless"]:
            return Result.status(f"{shown(name[2])} already exists, statement succeeded.")
        raise exists(shown(*name))
    session.need("CREATE TABLE", "SCHEMA", name[:2])
    text = found["create"] + re.sub(r",\s*INDEX\s+\w+\s*\([^)]*\)", "", found["rest"], flags=re.I)
    tree = normalize_identifiers(parse(Statement(text, text)), dialect="snowflake")
    if not isinstance(tree, exp.Create) or not isinstance(tree.this, exp.Schema) or tree.expression:
        raise unsupported("CREATE TABLE in this form")
    columns, key = _columns(tree.this)
    if found["hybrid"] and not key:
        raise Failed("200009", "22000", "Hybrid table must have a primary key.")
    table = Table(name, columns, key, bool(found["hybrid"]), session.role)
    defaults = {one.name: expression(one.default) for one in columns if one.default is not None}
    if name in catalog.tables:
        drop_object("TABLE", name, session, engine)
    engine.add_table(table, defaults)
    catalog.tables[name] = table
    session.accounts.grant(session.role, "OWNERSHIP", "TABLE", name)
    return Result.status(f"Table {shown(name[2])} successfully created.")


def _columns(schema):
    columns, key = [], []
    for one in schema.expressions:
        if isinstance(one, exp.ColumnDef):
            columns.append(column_of(one, key))
        elif keys := one.find(exp.PrimaryKey):
            key += [part.name for part in keys.expressions]
    for one in columns:
        one.nullable = one.nullable and one.name not in key
    return columns, key


def column_of(node, key):
    """The column of a definition. If it says that it is the primary key, it is added to `key`."""
    told = node.args["kind"]
    word = told.this.name if isinstance(told, exp.DataType) else str(told)
    kind = _KINDS.get(word, word)
    kind = word if kind is None else kind
    if kind not in _KINDS and kind not in _KINDS.values():
        raise Failed("002040", "42601", f"SQL compilation error:\nUnsupported data type '{told.sql('snowflake')}'.")
    sizes = [int(one.name) for one in told.expressions if one.name.isdigit()]
    given = {"name": node.name, "kind": kind}
    if kind == "NUMBER":
        given["precision"], given["scale"] = (*sizes, 38, 0)[:2] if len(sizes) != 1 else (sizes[0], 0)
    elif kind in ("VARCHAR", "BINARY"):
        given["length"] = sizes[0] if sizes else 1 if word == "CHAR" else LONGEST_TEXT if kind == "VARCHAR" else 8388608
    elif kind in _DEFAULT_PRECISION:
        given["precision"] = sizes[0] if sizes else 9
    for constraint in node.args.get("constraints", []):
        match constraint.kind:
            case exp.NotNullColumnConstraint() as found:
                given["nullable"] = bool(found.args.get("allow_null"))
            case exp.PrimaryKeyColumnConstraint():
                key.append(node.name)
            case exp.DefaultColumnConstraint() as found:
                given["default"] = found.this.sql("snowflake")
            case exp.CommentColumnConstraint() as found:
                given["comment"] = found.this.name
    return Column(**given)


def create_pipe(found, session, engine):
    catalog, name = session.catalog, session.full(found["name"])
    session.need_schema(name)
    if name in catalog.pipes and not found["replace"]:
        if found["unless"]:
            return Result.status(f"{shown(name[2])} already exists, statement succeeded.")
        raise exists(shown(*name))
    session.need("CREATE PIPE", "SCHEMA", name[:2])
    table = session.table(found["table"], "INSERT")
    if table.hybrid:
        raise Failed("391411", "0A000", "This feature is not supported for hybrid tables: 'PIPE'.")
    fields = None if re.search("MATCH_BY_COLUMN_NAME", found["options"], re.I) else _fields(found, table)
    if name in catalog.pipes:
        drop_object("PIPE", name, session, engine)
    catalog.pipes[name] = Pipe(name, table, fields, found["definition"].strip(), session.role)
    session.accounts.grant(session.role, "OWNERSHIP", "PIPE", name)
    return Result.status(f"Pipe {shown(name[2])} successfully created.")


def _fields(found, table):
    """The key of a row that each column of a COPY statement is taken from."""
    keys = []
    for one in re.split(r",(?![^(]*\))", found["list"]):
        field = _FIELD.fullmatch(one.strip())
        if not field:
            raise unsupported(f"{one.strip()} in a pipe: the emulator knows $1:key")
        keys.append(resolve(field["quoted"]) if field["quoted"] else field["plain"])
    listed = re.findall(PART, found["columns"] or "")
    names = [resolve(one) for one in listed] or [one.name for one in table.columns]
    if len(names) != len(keys):
        message = f"Insert value list does not match column list expecting {len(names)} but got {len(keys)}"
        raise Failed("002020", "21S01", f"SQL compilation error:\n{message}")
    return dict(zip((table.column(name).name for name in names), keys, strict=True))


def drop_object(kind, name, session, engine):
    """Takes an object away, with all that is in it, and what may be done with it."""
    for pipe in session.catalog.pipes.values():
        if name in (pipe.name[: len(name)], pipe.table.name[: len(name)]):
            pipe.forget_channels()
    session.catalog.drop(kind, name)
    session.accounts.forget(kind, name)
    engine.drop(kind, name)
