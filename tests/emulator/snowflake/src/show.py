"""SHOW and DESCRIBE."""

import re

from accounts import fingerprint
from names import NAME, parts, shown
from results import Result, column, text_columns
from sqlerrors import missing

SHOW = re.compile(
    r"SHOW\s+(?:TERSE\s+)?(?P<what>HYBRID\s+TABLES|PRIMARY\s+KEYS|TABLES|PIPES|WAREHOUSES|DATABASES|SCHEMAS|ROLES)"
    r"(?:\s+LIKE\s+'(?P<like>(?:[^']|'')*)')?"
    rf"(?:\s+IN\s+(?:(?P<kind>ACCOUNT|DATABASE|SCHEMA|TABLE)\b\s*)?(?P<within>{NAME})?)?"
    r"(?:\s+LIMIT\s+(?P<limit>\d+))?$",
    re.I,
)
GRANTS = re.compile(
    rf"SHOW\s+GRANTS(?:\s+(?:(?P<way>TO|OF)\s+(?P<grantee>ROLE|USER)|ON\s+(?P<kind>\w+))\s+(?P<name>{NAME}))?$", re.I
)
DESCRIBE = re.compile(rf"DESC(?:RIBE)?\s+(?P<kind>TABLE|USER|PIPE|WAREHOUSE)\s+(?P<name>{NAME})$", re.I)


def show(found, session, _engine):
    what = re.sub(r"\s+", " ", found["what"].upper())
    names, rows = _LISTS[what](session, _within(found, session))
    if found["like"] is not None:
        at = names.index("name")
        like = _like(found["like"].replace("''", "'"))
        rows = [row for row in rows if like.fullmatch(row[at])]
    return _table(names, rows[: int(found["limit"])] if found["limit"] else rows)


def _within(found, session):
    """The first parts that the names of what is shown have."""
    kind, within = (found["kind"] or "").upper(), found["within"]
    if kind == "ACCOUNT":
        return ()
    if within:
        length = {"DATABASE": 1, "SCHEMA": 2, "TABLE": 3}.get(kind, len(parts(within)))
        name = session.full(within, length)
        if length == 3:
            session.table(name)
        else:
            session.need_schema((*name, "PUBLIC") if length == 1 else name)
        return name
    current = (session.database, session.schema)
    return tuple(part for part in current if part is not None)


def _like(pattern):
    """A pattern of LIKE; a backslash, or two as a string has them, stands before what is meant as it is."""
    return re.compile(re.sub(r"\\+(.)|(.)", _like_one, pattern, flags=re.S), re.I | re.S)


def _like_one(found):
    return re.escape(found[1]) if found[1] else {"%": ".*", "_": "."}.get(found[2], re.escape(found[2]))


def _seen(session, kind, objects, within):
    return [one for name, one in sorted(objects.items()) if name[: len(within)] == within and session.sees(kind, name)]


def _tables(session, within, hybrid=False):
    names = [
        "created_on",
        "name",
        "database_name",
        "schema_name",
        "kind",
        "comment",
        "cluster_by",
        "owner",
        "is_hybrid",
    ]
    rows = [
        [
            _time(one.created),
            one.name[2],
            *one.name[:2],
            "TABLE",
            one.comment,
            "",
            one.owner,
            "Y" if one.hybrid else "N",
        ]
        for one in _seen(session, "TABLE", session.catalog.tables, within)
        if one.hybrid or not hybrid
    ]
    return names, rows


def _pipes(session, within):
    names = ["created_on", "name", "database_name", "schema_name", "definition", "owner", "comment", "kind"]
    rows = [
        [_time(one.created), one.name[2], *one.name[:2], one.definition, one.owner, "", "STREAMING"]
        for one in _seen(session, "PIPE", session.catalog.pipes, within)
        if one.custom
    ]
    return names, rows


def _keys(session, within):
    names = [
        "created_on",
        "database_name",
        "schema_name",
        "table_name",
        "column_name",
        "key_sequence",
        "constraint_name",
        "rely",
        "comment",
    ]
    rows = [
        [_time(one.created), *one.name, key, str(place), "SYS_CONSTRAINT_PK", "false", None]
        for one in _seen(session, "TABLE", session.catalog.tables, within)
        for place, key in enumerate(one.key, 1)
    ]
    return names, rows


def _warehouses(session, _within):
    rows = [
        [name, "STARTED", "STANDARD", "X-Small", _time(created)]
        for (name,), created in session.catalog.warehouses.items()
        if session.sees("WAREHOUSE", (name,))
    ]
    return ["name", "state", "type", "size", "created_on"], rows


def _databases(session, _within):
    rows = [[_time(made), *name] for name, made in session.catalog.databases.items() if session.sees("DATABASE", name)]
    return ["created_on", "name"], rows


def _schemas(session, within):
    held = session.catalog.schemas
    rows = [
        [_time(made), name[1], name[0]]
        for name, made in held.items()
        if name[:1] == within[:1] and session.sees("SCHEMA", name)
    ]
    return ["created_on", "name", "database_name"], rows


def _roles(session, _within):
    return ["created_on", "name"], [[_time(0), role] for role in session.accounts.roles]


_LISTS = {
    "TABLES": _tables,
    "HYBRID TABLES": lambda session, within: _tables(session, within, hybrid=True),
    "PRIMARY KEYS": _keys,
    "PIPES": _pipes,
    "WAREHOUSES": _warehouses,
    "DATABASES": _databases,
    "SCHEMAS": _schemas,
    "ROLES": _roles,
}


def grants(found, session, _engine):
    accounts = session.accounts
    if found["kind"]:
        length = {"DATABASE": 1, "SCHEMA": 2, "WAREHOUSE": 1, "ROLE": 1}.get(found["kind"].upper(), 3)
        name = session.full(found["name"], length)
        held = [one for one in accounts.grants if one[2] == found["kind"].upper() and one[3] == name]
        return _grants(held)
    if (found["grantee"] or "USER").upper() == "USER":
        user = accounts.user(parts(found["name"])[0] if found["name"] else session.user)
        if user is None:
            raise missing("User", found["name"] or session.user)
        rows = [[_time(0), role, "USER", user.name, ""] for role in sorted(user.roles)]
        return _table(["created_on", "role", "granted_to", "grantee_name", "granted_by"], rows)
    role = parts(found["name"])[0]
    if role not in accounts.roles:
        raise missing("Role", shown(role))
    held = [one for one in accounts.grants if one[0] == role]
    return _grants(held + [(role, "USAGE", "ROLE", (one,)) for one in sorted(accounts.roles[role])])


def _grants(held):
    names = [
        "created_on",
        "privilege",
        "granted_on",
        "name",
        "granted_to",
        "grantee_name",
        "grant_option",
        "granted_by",
    ]
    rows = [[_time(0), right, kind, shown(*name), "ROLE", role, "false", ""] for role, right, kind, name in held]
    return _table(names, rows)


def describe(found, session, _engine):
    kind = found["kind"].upper()
    if kind == "TABLE":
        return _describe_table(session.table(found["name"]))
    if kind == "USER":
        return _describe_user(found["name"], session)
    name = session.full(found["name"], 3 if kind == "PIPE" else 1)
    names, rows = _LISTS[f"{kind}S"](session, name[:-1])
    rows = [row for row in rows if row[names.index("name")] == name[-1]]
    if not rows:
        raise missing(kind.capitalize(), shown(*name))
    return _table(names, rows)


def _describe_table(table):
    names = ["name", "type", "kind", "null?", "default", "primary key", "unique key", "check", "expression", "comment"]
    rows = [
        [
            one.name,
            one.declared(),
            "COLUMN",
            "Y" if one.nullable else "N",
            one.default,
            "Y" if one.name in table.key else "N",
            "N",
            None,
            None,
            one.comment,
        ]
        for one in table.columns
    ]
    return _table(names, rows)


def _describe_user(name, session):
    user = session.accounts.user(parts(name)[0])
    # Others than administrators see themselves only.
    if (
        user is None
        or user.name != session.user
        and not session.accounts.may(session.role, "OWNERSHIP", "USER", (user.name,))
    ):
        raise missing("User", shown(*parts(name)))
    told = dict.fromkeys(("DEFAULT_ROLE", "DEFAULT_WAREHOUSE", "RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2"), "null")
    told |= {"NAME": user.name, "RSA_PUBLIC_KEY_FP": "null", "RSA_PUBLIC_KEY_2_FP": "null", **user.properties}
    for key in ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2"):
        if told[key] != "null":
            told[f"{key}_FP"] = fingerprint(told[key])
    rows = [[key, value, "null", ""] for key, value in sorted(told.items())]
    return _table(["property", "value", "default", "description"], rows)


def _time(seconds):
    return f"{seconds:.9f}"


def _table(names, rows):
    columns = [
        column("created_on", "timestamp_ltz", 0, 9) if name == "created_on" else text_columns(name)[0] for name in names
    ]
    return Result(columns, rows)
