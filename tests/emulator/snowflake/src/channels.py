"""Channels: sequencers, what waits to be committed, and what was."""

import time
from collections import deque
from dataclasses import dataclass, field

from messages import Refusal
from rows import unpack

HEALTHY = "SUCCESS"
# How many past appends a channel remembers, to know one that comes again.
REMEMBERED = 1024


@dataclass
class Append:
    """The rows of one request."""

    channel: "Channel"
    start: str | None
    end: str | None
    request_id: str | None
    body: bytes
    encoding: str
    # Monotonic, in seconds; and in milliseconds since 1970.
    due: float
    received_ms: int = field(default_factory=lambda: int(time.time() * 1000))
    committed_ms: int | None = None
    rows: int = 0
    # How its rows became the table's, and those that were refused: the reason of each number.
    mapping: object = None
    refused: dict = field(default_factory=dict)
    # It was discarded before it was committed.
    discarded: bool = False

    def unpacked(self):
        return unpack(self.body, self.encoding)


class Channel:
    def __init__(self, pipe, name):
        self.pipe, self.name = pipe, name
        self.client_sequencer, self.row_sequencer = -1, 0
        self.code = HEALTHY
        self.committed = None
        self.created_ms = int(time.time() * 1000)
        self.rows_inserted = self.rows_parsed = self.rows_error_count = 0
        self.last_error_bound = self.last_error_message = self.last_error_ms = None
        self.pending = deque()
        self._past = {}
        self._appended = deque()

    def open(self, offset_token, fail_on_uncommitted):
        """Opens it or opens it again: what is not committed is gone, and older continuations are stale."""
        if self.pending and fail_on_uncommitted:
            raise Refusal("ERR_CHANNEL_HAS_UNCOMMITTED_DATA")
        self.discard()
        self.client_sequencer += 1
        self.row_sequencer = 0
        self._past.clear()
        self.code = HEALTHY
        if offset_token is not None:
            self.committed = offset_token

    def continuation(self):
        return f"{self.client_sequencer}_{self.row_sequencer}"

    def append(self, continuation, append, swallow):
        """Takes rows in, or knows that it has them. Returns the next continuation token."""
        client, row = _parse(continuation)
        if client != self.client_sequencer:
            raise Refusal("STALE_CONTINUATION_TOKEN_SEQUENCER")
        if self.code != HEALTHY:
            if swallow:
                return f"{client}_{row + 1}"
            raise Refusal(self.code, status=409)
        if row > self.row_sequencer:
            self.invalidate("ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER")
            raise Refusal(self.code)
        if row < self.row_sequencer:
            # The same request again, or the same rows: else two writers share the token.
            request_id, start, end = self._past.get(row, (None, None, None))
            if request_id != append.request_id and (start, end) != (append.start, append.end):
                raise Refusal("STALE_CONTINUATION_TOKEN_SEQUENCER")
            return f"{client}_{row + 1}"
        self._past[row] = (append.request_id, append.start, append.end)
        self._past.pop(row - REMEMBERED, None)
        self.row_sequencer += 1
        self.pending.append(append)
        return self.continuation()

    def limit(self, per_second):
        """Refuses an append that is one too many within a second."""
        now = time.monotonic()
        while self._appended and self._appended[0] <= now - 1:
            self._appended.popleft()
        if per_second and len(self._appended) >= per_second:
            raise Refusal("ERR_TOO_MANY_REQUESTS")
        self._appended.append(now)

    def discard(self):
        for append in self.pending:
            append.discarded = True
        self.pending.clear()

    def invalidate(self, code, keeps_pending=False):
        """It is to be reopened, and will say so. What is not committed is gone, or stays until an opening discards it."""
        self.code = code
        if not keeps_pending:
            self.discard()

    def forget(self):
        """The service knows nothing of it any more."""
        self.discard()
        self.pipe.channels.pop(self.name, None)

    def commit(self, append):
        """The first that is pending is committed."""
        assert self.pending.popleft() is append
        self.committed = append.end if append.end is not None else self.committed
        self.rows_parsed += append.rows
        self.rows_inserted += append.rows - len(append.refused)
        append.committed_ms = int(time.time() * 1000)
        if append.refused:
            self.rows_error_count += len(append.refused)
            self.last_error_bound, self.last_error_ms = append.end, append.committed_ms
            self.last_error_message = next(reversed(append.refused.values()))

    def status(self):
        database, schema, pipe = self.pipe.name
        return {
            "database_name": database,
            "schema_name": schema,
            "pipe_name": pipe,
            "channel_name": self.name,
            "channel_status_code": self.code,
            "last_committed_offset_token": self.committed,
            "created_on_ms": self.created_ms,
            "rows_inserted": self.rows_inserted,
            "rows_parsed": self.rows_parsed,
            "rows_error_count": self.rows_error_count,
            "last_error_offset_upper_bound": self.last_error_bound,
            "last_error_message": self.last_error_message,
            "last_error_timestamp": self.last_error_ms,
            "snowflake_avg_processing_latency_ms": None,
        }


def _parse(continuation):
    client, separator, row = (continuation or "").partition("_")
    if not (separator and client.isdigit() and row.isdigit()):
        raise Refusal("ERR_INVALID_REQUEST", f"{continuation!r} is no continuation token")
    return int(client), int(row)
