"""Queries and DML: Snowflake's SQL as the engine's, and what comes of it."""

import logging

import duckdb
from sqlglot import exp
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from engine import past
from information import relation
from results import Result, count_columns
from script import Statement, bind, parse
from sqlerrors import of_engine

# What sqlglot cannot carry over it says in its log; here the engine finds it, or it is of no consequence.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

_COUNTS = {
    exp.Insert: (("number of rows inserted",), "numRowsInserted"),
    exp.Update: (("number of rows updated", "number of multi-joined rows updated"), "numRowsUpdated"),
    exp.Delete: (("number of rows deleted",), "numRowsDeleted"),
}
STATS = ("numRowsInserted", "numRowsUpdated", "numRowsDeleted", "numDuplicateRowsUpdated")
# What a statement does to the table that it is about.
_PRIVILEGES = {
    exp.Insert: ["INSERT"],
    exp.Update: ["UPDATE"],
    exp.Delete: ["DELETE"],
    exp.Merge: ["INSERT", "UPDATE"],
}
QUERIES = (exp.Query, *_PRIVILEGES)


def run(tree, statement, bindings, session, engine):
    """Runs one statement, and returns its result."""
    tables = []
    sql = translate(tree, bindings, session, engine, tables)
    for table in tables:
        engine.load(table)
        if not isinstance(tree, exp.Query):
            engine.remember(table)
    try:
        cursor = engine.connection.execute(sql)
        return _result(tree, cursor)
    except duckdb.Error as error:
        raise of_engine(error, statement.text) from error


def translate(tree, bindings, session, engine, tables):
    """A statement in the engine's SQL. The tables that it is about are put into `tables`."""
    tree = normalize_identifiers(bind(tree, bindings), dialect="snowflake")
    if isinstance(tree, exp.Select):
        _name_columns(tree)
    _put_tables(tree, session, engine, tables)
    tree = tree.transform(_rewrite, session)
    sql = tree.sql("duckdb")
    return sql + " RETURNING merge_action" if isinstance(tree, exp.Merge) else sql


def expression(text):
    """A default expression in the engine's SQL."""
    tree = parse(Statement(f"SELECT {text}", f"SELECT {text}")).expressions[0]
    return normalize_identifiers(tree, dialect="snowflake").transform(_rewrite, None).sql("duckdb")


def _name_columns(tree):
    """Columns without a name are called as they are written."""
    for place, one in enumerate(tree.expressions):
        if not isinstance(one, (exp.Alias, exp.Column, exp.Star)):
            tree.expressions[place] = exp.alias_(one.copy(), one.sql("snowflake").upper(), quoted=True)
    tree.set("expressions", tree.expressions)


def _put_tables(tree, session, engine, tables):
    """Puts full names for the names of tables, after a look at what the role may do with them."""
    known = {cte.alias for cte in tree.find_all(exp.CTE)}
    target = _target(tree)
    for node in list(tree.find_all(exp.Table)):
        if not isinstance(node.this, exp.Identifier) or (node.name in known and not node.db):
            continue
        session.need_warehouse()
        name = session.full([part.name for part in node.parts])
        if name[1] == "INFORMATION_SCHEMA":
            node.replace(relation(session, name, node.alias or name[2]))
            continue
        privileges = _PRIVILEGES[type(tree)] if node is target else ["SELECT"]
        table = session.table(name, *privileges)
        tables.append(table)
        is_stale = isinstance(tree, exp.Query) and engine.is_stale(table)
        for key, part in zip(("catalog", "db", "this"), past(table) if is_stale else name, strict=True):
            node.set(key, exp.to_identifier(part, quoted=True))
        # Else columns that are qualified with the table's name are not found.
        if not node.alias and not isinstance(tree, exp.Insert):
            node.set("alias", exp.TableAlias(this=exp.to_identifier(name[2], quoted=True)))


def _target(tree):
    if not isinstance(tree, tuple(_PRIVILEGES)):
        return None
    return tree.this.this if isinstance(tree.this, exp.Schema) else tree.this


def _rewrite(node, session):
    """One node of a tree, where sqlglot's own translation does not do."""
    if isinstance(node, exp.Identifier):
        node.set("quoted", True)
    elif (
        isinstance(node, exp.Cast) and isinstance(node.this, exp.JSONExtract) and not node.to.is_type("variant", "json")
    ):
        # A string in a variant is cast without its quotes.
        found = node.this
        scalar = exp.JSONExtractScalar(this=found.this, expression=found.expression)
        node.set("this", scalar)
    elif isinstance(node, exp.Values) and not node.alias and isinstance(node.parent, (exp.From, exp.Join)):
        # Their columns have names all the same.
        names = [
            exp.to_identifier(f"COLUMN{place}", quoted=True)
            for place in range(1, len(node.expressions[0].expressions) + 1)
        ]
        node.set("alias", exp.TableAlias(this=exp.to_identifier("VALUES", quoted=True), columns=names))
    elif isinstance(node, exp.Struct):
        return exp.Anonymous(this="to_json", expressions=[node])
    elif isinstance(node, (exp.Func, exp.Column)) and session and (value := _of_session(node, session)):
        return value
    elif isinstance(node, exp.When) and isinstance(node.args.get("then"), exp.Update):
        for change in node.args["then"].expressions:
            change.this.set("table", None)
    return node


def _of_session(node, session):
    """What functions say that are about the session."""
    name = node.name if isinstance(node, (exp.Anonymous, exp.Column)) else node.sql_name()
    found = {
        "CURRENT_ROLE": session.role,
        "CURRENT_USER": session.user,
        "CURRENT_WAREHOUSE": session.warehouse,
        "CURRENT_DATABASE": session.database,
        "CURRENT_SCHEMA": session.schema,
        "CURRENT_ACCOUNT": session.account,
        "CURRENT_VERSION": "9.40.1",
    }
    name = name.upper()
    if name not in found or isinstance(node, exp.Column) and (node.table or name == "CURRENT_VERSION"):
        return None
    return exp.Null() if found[name] is None else exp.Literal.string(found[name])


def _result(tree, cursor):
    if isinstance(tree, exp.Merge):
        actions = [row[0] for row in cursor.fetchall()]
        inserted, updated = actions.count("INSERT"), actions.count("UPDATE")
        stats = {**dict.fromkeys(STATS, 0), "numRowsInserted": inserted, "numRowsUpdated": updated}
        columns = count_columns("number of rows inserted", "number of rows updated")
        return Result(columns, [[str(inserted), str(updated)]], stats)
    if type(tree) in _COUNTS:
        names, stat = _COUNTS[type(tree)]
        count = cursor.fetchone()[0]
        row = [str(count), *["0"] * (len(names) - 1)]
        return Result(count_columns(*names), [row], {**dict.fromkeys(STATS, 0), stat: count})
    return Result.of_engine(cursor)
