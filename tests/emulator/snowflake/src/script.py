"""A request's text as statements, with its bindings as literals of SQL."""

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlglot import exp, parse_one, tokenize
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokens import TokenType

from sqlerrors import Failed, syntax


class Statement(NamedTuple):
    # As it was sent, without what surrounds it.
    text: str
    # With `?` as `:1`, `:2`...
    numbered: str


def split(text):
    """The statements of a text."""
    try:
        tokens = tokenize(text, read="snowflake")
    except TokenError as error:
        raise Failed("001003", "42000", f"SQL compilation error:\n{error}") from error
    found, begun, end, numbered, place = [], None, 0, [], 0

    def finish():
        nonlocal begun
        if begun is not None:
            rest = text[place : end + 1] if place else text[begun : end + 1]
            found.append(Statement(text[begun : end + 1], "".join(numbered) + rest))
        begun = None

    count = 0
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            finish()
            numbered, place, count = [], 0, 0
            continue
        if begun is None:
            begun = token.start
        # `?::NUMBER` begins with one token.
        if text[token.start] == "?":
            count += 1
            numbered.append(text[(place or begun) : token.start] + f":{count}")
            place = token.start + 1
        end = token.end
    finish()
    if not found:
        raise Failed("000900", "42601", "SQL compilation error:\nEmpty SQL statement.")
    return found


def bind(tree, bindings):
    """Replaces the placeholders in a parsed statement by what is bound."""

    def replace(node):
        if not isinstance(node, exp.Placeholder):
            return node
        number = str(node.name)
        if number not in bindings:
            raise Failed("002049", "42601", f"SQL compilation error:\nBind variable :{number} not set.")
        return literal(bindings[number])

    return tree.transform(replace)


def literal(binding):
    """The expression of `{"type": "FIXED", "value": "123"}`."""
    kind, value = binding.get("type"), binding.get("value")
    if value is None:
        return exp.Null()
    if not isinstance(value, str):
        raise Failed("390142", "22018", f"A bound value has to be a string, not {value!r}", 400)
    try:
        return _LITERALS[kind](value)
    except KeyError:
        raise Failed("390142", "22018", f"Unsupported type of a binding: {kind}", 400) from None
    except (ValueError, OverflowError):
        raise Failed("100037", "22018", f"Value '{value}' is not recognized as {kind}") from None


def _fixed(value):
    if not re.fullmatch(r"[+-]?\d{1,38}", value):
        raise ValueError(value)
    return exp.cast(exp.Literal.string(value), "DECIMAL(38, 0)")


def _real(value):
    return exp.cast(exp.Literal.string(repr(float(value))), "DOUBLE")


def _boolean(value):
    if value.lower() not in ("true", "false", "1", "0"):
        raise ValueError(value)
    return exp.Boolean(this=value.lower() in ("true", "1"))


def _after_epoch(value, unit, kind):
    moment = datetime(1970, 1, 1) + timedelta(microseconds=int(value) // unit if unit > 0 else int(value) * -unit)
    return exp.cast(exp.Literal.string(moment.isoformat(" ")), kind)


_LITERALS = {
    "FIXED": _fixed,
    "DECFLOAT": _real,
    "REAL": _real,
    "TEXT": lambda value: exp.Literal.string(value),
    "BOOLEAN": _boolean,
    "BINARY": lambda value: exp.func("UNHEX", exp.Literal.string(bytes.fromhex(value).hex())),
    "DATE": lambda value: _after_epoch(value, -1000, "DATE"),
    "TIME": lambda value: _after_epoch(value, 1000, "TIME"),
    "TIMESTAMP_NTZ": lambda value: _after_epoch(value, 1000, "TIMESTAMP"),
    "TIMESTAMP_LTZ": lambda value: _after_epoch(value, 1000, "TIMESTAMPTZ"),
    "TIMESTAMP_TZ": lambda value: _after_epoch(value.split(" ")[0], 1000, "TIMESTAMPTZ"),
}


def parse(statement):
    """The tree of one statement, or the failure with its place."""
    try:
        return parse_one(statement.numbered, read="snowflake")
    except ParseError as error:
        found = error.errors[0]
        column = max(found["col"] - len(found["highlight"] or ""), 0)
        raise syntax(found["line"], column, found["highlight"]) from error
