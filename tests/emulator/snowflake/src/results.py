"""Results as the SQL API tells them: columns with their types, and every value as a string."""

from datetime import datetime, timezone
from decimal import Decimal

import msgspec

TEXT_LENGTH = 16777216
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


def column(name, kind, precision=None, scale=None, length=None, nullable=True):
    return {
        "name": name,
        "database": "",
        "schema": "",
        "table": "",
        "nullable": nullable,
        "type": kind,
        "precision": precision,
        "scale": scale,
        "length": length,
        "byteLength": length,
        "collation": None,
    }


def text_columns(*names):
    return [column(name, "text", length=TEXT_LENGTH) for name in names]


def count_columns(*names):
    return [column(name, "fixed", 19, 0, nullable=False) for name in names]


class Result:
    def __init__(self, columns, rows, stats=None):
        self.columns, self.rows, self.stats = columns, rows, stats

    @classmethod
    def status(cls, message):
        return cls(text_columns("status"), [[message]])

    @classmethod
    def of_engine(cls, cursor):
        names = [one[0] for one in cursor.description]
        kinds = [str(one[1]) for one in cursor.description]
        columns = [_column(name, kind) for name, kind in zip(names, kinds, strict=True)]
        writers = [_WRITERS.get(one["type"], str) for one in columns]
        rows = [
            [None if value is None else write(value) for write, value in zip(writers, row, strict=True)]
            for row in cursor.fetchall()
        ]
        return cls(columns, rows)


_PLAIN = {
    "DOUBLE": ("real",),
    "FLOAT": ("real",),
    "BOOLEAN": ("boolean",),
    "DATE": ("date",),
    "TIME": ("time", None, 9),
    "TIMESTAMP": ("timestamp_ntz", 0, 9),
    "TIMESTAMP WITH TIME ZONE": ("timestamp_ltz", 0, 9),
    "JSON": ("variant",),
    "BLOB": ("binary", None, None, 8388608),
    "TINYINT": ("fixed", 3, 0),
    "SMALLINT": ("fixed", 5, 0),
    "INTEGER": ("fixed", 10, 0),
    "BIGINT": ("fixed", 19, 0),
    "HUGEINT": ("fixed", 38, 0),
}


def _column(name, kind):
    if kind.startswith("DECIMAL"):
        precision, scale = kind[8:-1].split(",")
        return column(name, "fixed", int(precision), int(scale))
    if kind in _PLAIN:
        return column(name, *_PLAIN[kind])
    return column(name, "text", None, None, TEXT_LENGTH)


def _fixed(value):
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _instant(value):
    value = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    since = value - datetime(1970, 1, 1, tzinfo=timezone.utc)
    seconds = since.days * 86400 + since.seconds
    return f"{seconds}.{since.microseconds * 1000:09d}"


def _time(value):
    return f"{value.hour * 3600 + value.minute * 60 + value.second}.{value.microsecond * 1000:09d}"


def _variant(value):
    """A variant as the service writes it: over several lines, keys in order, numbers with all their digits."""
    return msgspec.json.format(_encode(_decode(value)), indent=2).decode()


_WRITERS = {
    "fixed": _fixed,
    "real": repr,
    "boolean": lambda value: "true" if value else "false",
    "date": lambda value: str((value - datetime(1970, 1, 1).date()).days),
    "time": _time,
    "timestamp_ntz": _instant,
    "timestamp_ltz": _instant,
    "variant": _variant,
    "binary": lambda value: value.hex().upper(),
}
