"""Rows of an append: NDJSON, perhaps compressed, against the columns of a table."""

import gzip
import io
from decimal import Decimal

import msgspec
import zstandard

from columns import Bad
from messages import Refusal

# What a body may grow to.
LARGEST = 1 << 30
# The value of a column with a default, in a row that does not have its key.
MISSING = object()
# Numbers with a point keep all their digits.
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def unpack(body, encoding):
    """The bytes of a body as its `Content-Encoding` has them."""
    try:
        match encoding:
            case "" | "identity":
                return body
            case "zstd":
                return _limited(zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True))
            case "gzip":
                return _limited(gzip.GzipFile(fileobj=io.BytesIO(body)))
    except (zstandard.ZstdError, OSError, EOFError) as error:
        raise Refusal("ERR_INVALID_REQUEST", f"The body is no {encoding}: {error}") from error
    raise Refusal("ERR_INVALID_REQUEST", f"Unsupported Content-Encoding {encoding}", 415)


def _limited(reader):
    data = reader.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise Refusal("ERR_REQUEST_TOO_LARGE", "The request is too large when it is decompressed")
    return data


def lines(data):
    """The rows in it as bytes: blank lines, which the vendor's SDK sends, are none."""
    return [line for line in data.split(b"\n") if line and not line.isspace()]


class Mapping:
    """How rows become those of a table: `fields` says which key of a row each column is taken from."""

    def __init__(self, table, fields=None):
        self.columns = list(table.columns) if fields is None else [table.column(column) for column in fields]
        keys = [column.name for column in self.columns] if fields is None else list(fields.values())
        # By name, keys match in upper case; those of a COPY statement match as they are.
        self._by_name = fields is None
        self._places = {key: place for place, key in enumerate(keys)}
        # A row without a key: the default, or NULL.
        self._blank = [None if column.default is None else MISSING for column in self.columns]
        self._required = [place for place, column in enumerate(self.columns) if not column.nullable]
        taken = {column.name for column in self.columns}
        others = (column for column in table.columns if column.name not in taken)
        self._never = next((one.name for one in others if not one.nullable and one.default is None), None)

    def values(self, line):
        """What goes into the columns: text, None for NULL, or MISSING. Raises `Bad` for a row that is refused."""
        found = self._blank.copy()
        for key, value in _row(line).items():
            place = self._place(key)
            if place >= 0:
                found[place] = None if value is None else self.columns[place].convert(value)
        self._whole(found)
        return found

    def refused(self, rows):
        """The numbers of the rows that are refused, each with the reason."""
        found, places, checks = {}, self._places, [column.check for column in self.columns]
        for number, line in enumerate(rows):
            try:
                row, held = _row(line), self._blank.copy()
                for key, value in row.items():
                    place = places[key] if key in places else self._place(key)
                    if place >= 0:
                        held[place] = value
                        if value is not None and (check := checks[place]):
                            check(value)
                self._whole(held)
            except Bad as bad:
                found[number] = str(bad)
        return found

    def _whole(self, found):
        """Refuses a row in which a column is NULL that must not be."""
        if self._never:
            raise Bad(f"NULL result in a non-nullable column: {self._never}")
        for place in self._required:
            if found[place] is None:
                raise Bad(f"NULL result in a non-nullable column: {self.columns[place].name}")

    def _place(self, key):
        """The place of a key: -1 if no column takes it."""
        if key in self._places:
            return self._places[key]
        place = self._places.get(key.upper(), -1) if self._by_name else -1
        if len(self._places) < 10000:
            self._places[key] = place
        return place


def _row(line):
    try:
        row = _decode(line)
    except msgspec.MsgspecError as error:
        raise Bad(f"Error parsing JSON: {error}") from None
    if type(row) is not dict:
        raise Bad("Error parsing JSON: a row has to be an object")
    return row
