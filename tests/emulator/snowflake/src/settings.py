"""What of the service can be set, over the control port."""

from messages import Refusal

DEFAULTS = {
    # The account's name, as it stands in the `iss` of a key-pair JWT.
    "account": "TESTACCT",
    # The host that /v2/streaming/hostname tells. None: the one that it was asked on.
    "ingest_host": None,
    # Seconds that scoped and OAuth tokens live.
    "token_life_s": 3600,
    # Seconds that the service's clock is ahead of the machine's.
    "clock_ahead_s": 0,
    # How long rows wait before they may be committed, and how long the next batch of commits waits after one.
    "commit_delay_ms": 100,
    "commit_interval_ms": 20,
    # Nothing is committed: at all, or in these channels.
    "hold_commits": False,
    "held_channels": [],
    # An append into an invalid channel is answered with 200, and its rows are discarded.
    "swallow_when_invalid": False,
    # What is said of many channels at once has the count of their errors.
    "counts_errors_in_bulk": True,
    # Limits. The rate is of appends to one channel, and off at 0.
    "max_request_bytes": 4 << 20,
    "max_channels": 2000,
    "max_status_channels": 1000,
    "max_appends_per_second": 0,
    # After this a statement that still runs is answered with 202.
    "async_after_ms": 45000,
    # A query of a hybrid table may find it as it was so long ago.
    "stale_reads_ms": 0,
    # Rows in one partition of a statement's result.
    "rows_per_partition": 10000,
}


class Settings:
    def __init__(self):
        self._values = dict(DEFAULTS)

    def __getattr__(self, name):
        return self._values[name]

    def change(self, changes):
        for name, value in changes.items():
            if name not in DEFAULTS:
                raise Refusal("unknown", f"there is no setting {name!r}; there are {', '.join(DEFAULTS)}")
            usual = DEFAULTS[name]
            if usual is not None and type(value) is not type(usual):
                raise Refusal("unknown", f"{name} is a {type(usual).__name__}, not {value!r}")
        self._values.update(changes)
        return self.all()

    def all(self):
        return dict(self._values)
