"""One statement: which kind it is, and its execution."""

import re
import time

import duckdb
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

import definitions
import queries
import show
from accounts import User
from names import NAME, parts, resolve, shown
from results import Result
from script import Statement, parse
from sqlerrors import exists, missing, of_engine, unsupported

_NAME = rf"(?P<name>{NAME})"
# How many parts the name of a kind has.
_LENGTHS = {"DATABASE": 1, "SCHEMA": 2, "TABLE": 3, "PIPE": 3, "WAREHOUSE": 1, "ROLE": 1, "USER": 1}
_KIND = "DATABASE|SCHEMA|TABLE|PIPE|WAREHOUSE|ROLE|USER"
# What a statement that would change the session may only do together with others.
_ONLY_TOGETHER = re.compile(r"(BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|USE|ALTER\s+SESSION)\b", re.I)


def execute(statement, bindings, session, engine):
    """Runs one statement on the engine, and returns its result. Raises `Failed`."""
    for pattern, act in _COMMANDS:
        if found := pattern.fullmatch(statement.text):
            return act(found, session, engine)
    tree = parse(statement)
    if not isinstance(tree, queries.QUERIES):
        raise unsupported(statement.text.split(None, 2)[0].upper())
    return queries.run(tree, statement, bindings, session, engine)


def needs_company(statement):
    return _ONLY_TOGETHER.match(statement.text) is not None


def _create(found, session, engine):
    kind = found["kind"].upper()
    name = session.full(found["name"], _LENGTHS[kind])
    catalog, accounts = session.catalog, session.accounts
    held = {
        "DATABASE": catalog.databases,
        "SCHEMA": catalog.schemas,
        "WAREHOUSE": catalog.warehouses,
        "ROLE": {(role,) for role in accounts.roles},
        "USER": {(user,) for user in accounts.users},
    }[kind]
    if name in held:
        if found["unless"]:
            return Result.status(f"{shown(name[-1])} already exists, statement succeeded.")
        raise exists(shown(*name))
    if kind == "SCHEMA":
        session.need_schema((*name[:1], "PUBLIC"))
        session.need("CREATE SCHEMA", "DATABASE", name[:1])
        engine.add_schema(name)
        catalog.schemas[name] = time.time()
    else:
        session.need(f"CREATE {kind}", "ACCOUNT", ())
        if kind == "DATABASE":
            engine.add_database(name[0])
            catalog.add_database(name[0])
        elif kind == "WAREHOUSE":
            catalog.warehouses[name] = time.time()
        elif kind == "ROLE":
            accounts.roles[name[0]] = set()
        else:
            accounts.users[name[0]] = User(name[0])
            _set(accounts.users[name[0]], found["options"])
    accounts.grant(session.role, "OWNERSHIP", kind, name)
    return Result.status(f"{kind.capitalize()} {shown(name[-1])} successfully created.")


def _drop(found, session, engine):
    kind = found["kind"].upper()
    name = session.full(found["name"], _LENGTHS[kind])
    catalog, accounts = session.catalog, session.accounts
    held = {"DATABASE": catalog.databases, "SCHEMA": catalog.schemas, "TABLE": catalog.tables, "PIPE": catalog.pipes}
    if kind not in held:
        held = {"WAREHOUSE": catalog.warehouses, "ROLE": accounts.roles, "USER": accounts.users}
    key = name[0] if kind in ("ROLE", "USER") else name
    if key not in held[kind]:
        if found["unless"]:
            message = f"Drop statement executed successfully ({shown(name[-1])} already dropped)."
            return Result.status(message)
        raise missing("Object" if kind == "TABLE" else kind.capitalize(), shown(*name))
    session.need("OWNERSHIP", kind, name)
    if kind in ("WAREHOUSE", "ROLE", "USER"):
        del held[kind][key]
        accounts.forget(kind, name)
    else:
        definitions.drop_object(kind, name, session, engine)
    return Result.status(f"{shown(name[-1])} successfully dropped.")


def _alter_user(found, session, _engine):
    name = session.full(found["name"], 1)
    user = session.accounts.user(name[0])
    if user is None:
        raise missing("User", shown(*name))
    # Everyone may change the own keys.
    if user.name != session.user:
        session.need("OWNERSHIP", "USER", name)
    if found["way"].upper() == "SET":
        _set(user, found["options"])
    else:
        for one in re.findall(r"\w+", found["options"]):
            user.properties.pop(one.upper(), None)
    return Result.status("Statement executed successfully.")


def _set(user, options):
    given = re.findall(r"(\w+)\s*=\s*(?:'((?:[^']|'')*)'|([^\s,]+))", options)
    before = dict(user.properties)
    for key, text, word in given:
        user.properties[key.upper()] = text.replace("''", "'") or resolve(word)
    try:
        user.keys()
    except Exception:
        user.properties = before
        raise


def _grant(found, session, _engine):
    accounts, granting = session.accounts, found["verb"].upper() == "GRANT"
    role = parts(found["role"])[0]
    if role not in accounts.roles:
        raise missing("Role", shown(role))
    kind = found["kind"].upper()
    name = () if kind == "ACCOUNT" else session.full(found["name"], _LENGTHS[kind])
    _there(kind, name, session)
    change = accounts.grant if granting else accounts.revoke
    for privilege in re.split(r"\s*,\s*", re.sub(r"\s+", " ", found["privileges"].upper())):
        session.need("OWNERSHIP", kind, name)
        change(role, privilege.removesuffix(" PRIVILEGES"), kind, name)
    return Result.status("Statement executed successfully.")


def _there(kind, name, session):
    catalog = session.catalog
    if kind in ("SCHEMA", "TABLE", "PIPE"):
        session.need_schema(name)
    held = {"DATABASE": catalog.databases, "TABLE": catalog.tables, "WAREHOUSE": catalog.warehouses}
    found = catalog.pipe(name) if kind == "PIPE" else name in held.get(kind, (name,))
    if not found:
        raise missing("Object" if kind == "TABLE" else kind.capitalize(), shown(*name))


def _grant_role(found, session, _engine):
    accounts, granting = session.accounts, found["verb"].upper() == "GRANT"
    role, name = parts(found["role"])[0], parts(found["name"])[0]
    if role not in accounts.roles:
        raise missing("Role", shown(role))
    session.need("OWNERSHIP", "ROLE", (role,))
    if found["kind"].upper() == "USER":
        user = accounts.user(name)
        if user is None:
            raise missing("User", shown(name))
        held = user.roles
    else:
        if name not in accounts.roles:
            raise missing("Role", shown(name))
        held = accounts.roles[name]
    (held.add if granting else held.discard)(role)
    return Result.status("Statement executed successfully.")


def _use(found, session, _engine):
    session.use((found["kind"] or "DATABASE").upper(), found["name"])
    return Result.status("Statement executed successfully.")


def _session(found, session, _engine):
    for key, value in re.findall(r"(\w+)\s*=\s*('[^']*'|\S+)", found["options"]):
        session.parameters[key.upper()] = value.strip("'")
    return Result.status("Statement executed successfully.")


def _transaction(found, _session, engine):
    word = found["word"].split()[0].upper()
    try:
        engine.connection.execute("BEGIN" if word in ("BEGIN", "START") else word)
    except duckdb.TransactionException:
        # To end what was not begun is allowed, and so is the other way round.
        pass
    except duckdb.Error as error:
        raise of_engine(error, found[0]) from error
    return Result.status("Statement executed successfully.")


def _alter_table(found, session, engine):
    """ADD COLUMN and DROP COLUMN."""
    table = session.table(found["name"], "OWNERSHIP")
    engine.load(table)
    before, added = list(table.columns), found["way"].upper() == "ADD"
    if added:
        text = f"CREATE TABLE T ({found['what']})"
        tree = normalize_identifiers(parse(Statement(text, text)), dialect="snowflake")
        column = definitions.column_of(tree.this.expressions[0], [])
        if column.name in (one.name for one in before):
            raise exists(column.name)
        engine.add_column(table, column)
        table.change([*before, column])
    else:
        name = table.column(resolve(found["what"])).name
        engine.drop_column(table, name)
        table.change([one for one in before if one.name != name])
    session.catalog.table_changed(table)
    return Result.status("Statement executed successfully.")


def _pattern(text):
    return re.compile(text, re.I | re.S)


_COMMANDS = [
    (definitions.TABLE, definitions.create_table),
    (definitions.PIPE, definitions.create_pipe),
    (
        _pattern(
            rf"CREATE\s+(?P<kind>DATABASE|SCHEMA|WAREHOUSE|ROLE|USER)\s+(?P<unless>IF\s+NOT\s+EXISTS\s+)?{_NAME}(?P<options>.*)"
        ),
        _create,
    ),
    (_pattern(rf"DROP\s+(?P<kind>{_KIND})\s+(?P<unless>IF\s+EXISTS\s+)?{_NAME}(?:\s+CASCADE)?"), _drop),
    (_pattern(rf"ALTER\s+USER\s+(?:IF\s+EXISTS\s+)?{_NAME}\s+(?P<way>SET|UNSET)\s+(?P<options>.*)"), _alter_user),
    (_pattern(rf"ALTER\s+TABLE\s+{_NAME}\s+(?P<way>ADD|DROP)\s+COLUMN\s+(?P<what>.*)"), _alter_table),
    (
        _pattern(rf"(?P<verb>GRANT|REVOKE)\s+ROLE\s+(?P<role>{NAME})\s+(?:TO|FROM)\s+(?P<kind>ROLE|USER)\s+{_NAME}"),
        _grant_role,
    ),
    (
        _pattern(
            rf"(?P<verb>GRANT|REVOKE)\s+(?P<privileges>[\w\s,]+?)\s+ON\s+(?P<kind>{_KIND}|ACCOUNT)(?:\s+{_NAME})?"
            rf"\s+(?:TO|FROM)\s+(?:ROLE\s+)?(?P<role>{NAME})(?:\s+(?:WITH\s+GRANT\s+OPTION|(?:REVOKE|COPY)\s+CURRENT\s+GRANTS))?"
        ),
        _grant,
    ),
    (_pattern(rf"USE\s+(?:(?P<kind>ROLE|WAREHOUSE|DATABASE|SCHEMA)\s+)?{_NAME}"), _use),
    (_pattern(r"ALTER\s+SESSION\s+SET\s+(?P<options>.*)"), _session),
    (_pattern(r"(?P<word>BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK)(?:\s+(?:WORK|TRANSACTION))?"), _transaction),
    (show.SHOW, show.show),
    (show.GRANTS, show.grants),
    (show.DESCRIBE, show.describe),
]
