"""Columns of tables, and which JSON values each takes from the streaming API.

A value is converted to the text that the SQL engine casts to the column's type; what cannot be is `Bad`. Whether it can
be is what commits ask, for each value of each row: so there is `check`, which is quicker where it can be.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

import msgspec

LONGEST_TEXT = 16777216
JSON_KINDS = ("VARIANT", "OBJECT", "ARRAY")
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Bad(Exception):
    """A value that its column refuses, and why."""


@dataclass
class Column:
    name: str
    # NUMBER, FLOAT, VARCHAR, BINARY, BOOLEAN, DATE, TIME, TIMESTAMP_NTZ, _LTZ, _TZ, VARIANT, OBJECT or ARRAY.
    kind: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    nullable: bool = True
    # The expression as it was written.
    default: str | None = None
    comment: str | None = None

    def __post_init__(self):
        self.convert = _CONVERTERS[self.kind](self)
        # None where every value will do.
        self.check = _CHECKS.get(self.kind, lambda column: column.convert)(self)

    def declared(self):
        """The type as DESC TABLE shows it."""
        match self.kind:
            case "NUMBER":
                return f"NUMBER({self.precision},{self.scale})"
            case "VARCHAR" | "BINARY":
                return f"{self.kind}({self.length})"
            case "TIME" | "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ":
                return f"{self.kind}({self.precision})"
            case kind:
                return kind


def _number(column):
    limit, step = 10 ** (column.precision - column.scale), Decimal(1).scaleb(-column.scale)

    def convert(value):
        if type(value) is int:
            if -limit < value < limit:
                return str(value)
        elif isinstance(value, (Decimal, str)):
            try:
                number = Decimal(value).quantize(step, "ROUND_HALF_UP")
            except InvalidOperation:
                raise Bad(f"Numeric value '{value}' is not recognized") from None
            if -limit < number < limit:
                return str(number)
        else:
            raise Bad(f"Failed to cast variant value {_json(value)} to FIXED")
        raise Bad(f"Number out of representable range: type FIXED({column.precision},{column.scale}), value {value}")

    return convert


def _float(_column):
    def convert(value):
        if type(value) is not bool and isinstance(value, (int, Decimal, str)):
            try:
                return repr(float(value))
            except ValueError:
                raise Bad(f"Numeric value '{value}' is not recognized") from None
        raise Bad(f"Failed to cast variant value {_json(value)} to REAL")

    return convert


def _text(column):
    length = column.length

    def convert(value):
        text = value if type(value) is str else _json(value)
        if len(text) > length:
            raise Bad(f"String '{text[:40]}' is too long and would be truncated")
        return text

    return convert


def _binary(column):
    def convert(value):
        if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", value):
            raise Bad(f"The following string is not a legal hex-encoded value: {_json(value)}")
        if len(value) // 2 > column.length:
            raise Bad("Binary value is too long and would be truncated")
        # As the SQL engine writes bytes.
        return re.sub("..", r"\\x\g<0>", value)

    return convert


_TRUE, _FALSE = {"true", "t", "yes", "y", "on", "1"}, {"false", "f", "no", "n", "off", "0"}


def _boolean(_column):
    def convert(value):
        if isinstance(value, (bool, int, Decimal)):
            return "true" if value else "false"
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return "true" if value.lower() in _TRUE else "false"
        raise Bad(f"Boolean value {_json(value)} is not recognized")

    return convert


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def moment(value):
    """The time that an ISO string, or a number of seconds, milli-, micro- or nanoseconds since 1970 stands for."""
    if isinstance(value, str) and not value.lstrip("-").isdigit():
        # More than microseconds are cut, and `Z` is for Python 3.10.
        text = re.sub(r"(\.\d{6})\d+", r"\1", value.strip().replace("Z", "+00:00"))
        return datetime.fromisoformat(text)
    number = int(value)
    digits = 1
    while abs(number) >= 31536000000 * digits and digits < 10**9:
        digits *= 1000
    return _EPOCH + timedelta(microseconds=number * 10**6 // digits)


def _timestamp_check(column):
    def check(value):
        try:
            datetime.fromisoformat(value)
        except (ValueError, TypeError):
            column.convert(value)

    return check


def _timestamp(column):
    def convert(value):
        if type(value) is bool or not isinstance(value, (str, int)):
            raise Bad(f"Failed to cast variant value {_json(value)} to {column.kind}")
        try:
            found = moment(value)
        except (ValueError, OverflowError):
            raise Bad(f"Timestamp '{value}' is not recognized") from None
        if column.kind == "TIMESTAMP_NTZ":
            return found.replace(tzinfo=None).isoformat(" ")
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).isoformat(" ")

    return convert


def _date(_column):
    def convert(value):
        try:
            if isinstance(value, str) and len(value) == 10:
                return date.fromisoformat(value).isoformat()
            return moment(value).date().isoformat()
        except (ValueError, TypeError, OverflowError):
            raise Bad(f"Date {_json(value)} is not recognized") from None

    return convert


def _time(_column):
    def convert(value):
        try:
            return datetime.fromisoformat(f"2000-01-01 {value}").time().isoformat()
        except ValueError:
            raise Bad(f"Time {_json(value)} is not recognized") from None

    return convert


def _variant(column):
    wanted = {"OBJECT": dict, "ARRAY": list}.get(column.kind)

    def convert(value):
        if wanted and not isinstance(value, wanted):
            raise Bad(f"Failed to cast variant value {_json(value)} to {column.kind}")
        return _json(value)

    return convert


def _json(value):
    return _encode(value).decode()


_CONVERTERS = {
    "NUMBER": _number,
    "FLOAT": _float,
    "VARCHAR": _text,
    "BINARY": _binary,
    "BOOLEAN": _boolean,
    "DATE": _date,
    "TIME": _time,
    **dict.fromkeys(("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"), _timestamp),
    **dict.fromkeys(JSON_KINDS, _variant),
}
_CHECKS = {
    "VARIANT": lambda _column: None,
    **dict.fromkeys(("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"), _timestamp_check),
}
