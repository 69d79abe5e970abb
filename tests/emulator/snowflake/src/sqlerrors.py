"""Failures of statements, as the service tells them: a code, a state and a message."""

import re

import duckdb


class Failed(Exception):
    """A statement that failed."""

    def __init__(self, code, state, message, status=422):
        super().__init__(message)
        self.code, self.state, self.message, self.status = code, state, message, status


def missing(kind, shown):
    # As seen live: tables and views have one code, all else another.
    code, state = ("002003", "42S02") if kind == "Object" else ("002043", "02000")
    return Failed(code, state, f"SQL compilation error:\n{kind} '{shown}' does not exist or not authorized.")


def exists(shown):
    return Failed("002002", "42710", f"SQL compilation error:\nObject '{shown}' already exists.")


def forbidden(kind, shown):
    message = f"SQL access control error:\nInsufficient privileges to operate on {kind.lower()} '{shown}'"
    return Failed("003001", "42501", message)


def unsupported(what):
    return Failed("000002", "0A000", f"Unsupported feature '{what}'.")


def syntax(line, column, word):
    message = f"SQL compilation error:\nsyntax error line {line} at position {column} unexpected '{word}'."
    return Failed("001003", "42000", message)


_NUMBERS = "DECIMAL|U?INT|U?BIGINT|HUGEINT|DOUBLE"
_MOMENT = r"(?:timestamp|date|time) field value out of range: ['\"](.*?)['\"]"
_NO_MOMENT = r"invalid (?:timestamp|date|time) field format: ['\"](.*?)['\"]"
# What the SQL engine says, and what the service says instead. `{0}` is what the first group has found.
_ENGINE = [
    (r"violates primary key|PRIMARY KEY or UNIQUE constraint", "200001", "22000", "Primary key already exists"),
    (r"CHECK constraint failed", "100078", "22000", "String is too long and would be truncated"),
    (r"NOT NULL constraint failed: \S*?\.(\S+)", "100072", "22000", "NULL result in a non-nullable column: {0}"),
    (
        rf"Could not convert string ['\"](.*)['\"] to (?:{_NUMBERS})",
        "100038",
        "22018",
        "Numeric value '{0}' is not recognized",
    ),
    (
        r"Could not convert string ['\"](.*)['\"] to BOOL",
        "100037",
        "22018",
        "Boolean value '{0}' is not recognized",
    ),
    (
        r"Could not (?:cast|convert) .* to DECIMAL\((.*)\)",
        "100046",
        "22003",
        "Number out of representable range: type FIXED({0})",
    ),
    (rf"{_MOMENT}|{_NO_MOMENT}", "100035", "22007", "Timestamp '{0}' is not recognized"),
    (r"Malformed JSON at byte (\d+)", "100069", "22P02", "Error parsing JSON: malformed at byte {0}"),
]


def of_engine(error, statement):
    """The failure that an error of the SQL engine stands for."""
    text = str(error)
    for pattern, code, state, message in _ENGINE:
        if found := re.search(pattern, text):
            groups = [group for group in found.groups() if group is not None]
            return Failed(code, state, message.format(*groups))
    if found := re.search(r'Referenced column "(.*?)" (?:was )?not found|does not have a column named "(.*?)"', text):
        name = found[1] or found[2]
        line, column = _place(statement, name)
        message = f"SQL compilation error: error line {line} at position {column}\ninvalid identifier '{name}'"
        return Failed("000904", "42000", message)
    if isinstance(error, duckdb.CatalogException) and (found := re.search(r"Function with name (\S+)", text)):
        return Failed("002140", "42601", f"SQL compilation error:\nUnknown function {found[1].upper()}")
    # The first line says what is wrong; the others show a statement that nobody has sent.
    return Failed("100132", "P0000", f"SQL execution error: {text.splitlines()[0]}")


def _place(statement, name):
    """Line (from 1) and position (from 0) at which a statement first has `name`."""
    at = max(statement.upper().find(name.upper()), 0)
    before = statement[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1)
