"""Streaming while things go wrong. What the SDK sends again is there once."""

from account import arm, client, closing, committed, control, happened, ids, is_over, send, set_up, wait_until
from snowflake.ingest.streaming import StreamingIngestError

BUSY = '"ERR_GENERAL_EXCEPTION_RETRY_REQUEST"'
# Phase, action and more of what the SDK lives through by itself, by sending the same append again.
SURVIVED = [
    ("request", "refuse", {"status": 429, "code": "ERR_TOO_MANY_REQUESTS"}),
    ("request", "refuse", {"status": 429, "code": "ERR_TOO_MANY_REQUESTS", "retry_after": 1}),
    ("request", "refuse", {"status": 503, "body": BUSY}),
    ("request", "refuse", {"status": 500, "body": BUSY}),
    ("request", "refuse", {"code": "390303"}),
    ("request", "drop", {}),
    ("request", "finish", {}),
    ("answer", "refuse", {"status": 503, "body": BUSY}),
    ("answer", "drop", {}),
    ("answer", "finish", {}),
    ("answer", "cut", {}),
    ("answer", "slow", {"delay_ms": 50}),
    ("commit", "slow", {"delay_ms": 50}),
]
# What ends a channel: it has to be opened again, and what was not committed sent again.
ENDING = [
    "STALE_CONTINUATION_TOKEN_SEQUENCER",
    "STALE_PIPE_CACHE",
    "ERR_CHANNEL_MUST_BE_REOPENED",
    "ERR_REQUEST_TOO_LARGE",
]
ENDING += ["ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED"]
STATUSES = [
    "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
    "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED",
    "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER",
    "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER",
    "ERR_CHANNEL_MUST_BE_REOPENED",
    "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP",
]


def survived():
    set_up()
    with client() as streams:
        channel, _ = streams.open_channel("lane")
        for number, (phase, action, more) in enumerate(SURVIVED):
            fault = arm(phase, action, **({} if phase == "commit" else {"operation": "append"}), channel="lane", **more)
            send(channel, [number])
            committed(channel, number)
            assert happened(fault) == 1, (phase, action, more)
            assert ids() == list(range(number + 1)), (phase, action, more)


def ended():
    set_up()
    with closing(client()) as streams:
        for number, code in enumerate(ENDING):
            channel, status = streams.open_channel("lane")
            assert status.latest_committed_offset_token == (str(number - 1) if number else None), (code, status)
            fault = arm("request", "refuse", operation="append", code=code)
            send(channel, [number])
            wait_until("the refusal", lambda fault=fault: happened(fault) == 1)
            is_over(channel)
            channel.close(wait_for_flush=False)
            channel, _ = streams.open_channel("lane")
            send(channel, [number])
            committed(channel, number)
            channel.close()
    assert ids() == list(range(len(ENDING)))


def invalidated():
    """Each status that a channel can get, while rows wait to be committed: they are gone, and the SDK says so."""
    set_up()
    with client() as streams:
        for number, code in enumerate(STATUSES):
            channel, _ = streams.open_channel("lane")
            arm("commit", "invalidate", channel="lane", code=code)
            send(channel, [number])
            try:
                committed(channel, number)
                raise AssertionError(f"{code} went unnoticed")
            except StreamingIngestError as error:
                assert code in str(error), (code, error)
            channel.close(wait_for_flush=False)
            channel, status = streams.open_channel("lane")
            assert status.status_code == "SUCCESS", status
            # It reads the status from time to time only.
            wait_until("the SDK to see it", lambda one=channel: one.get_channel_status().status_code == "SUCCESS")
            send(channel, [number])
            committed(channel, number)
            channel.close()
    assert ids() == list(range(len(STATUSES)))


def forgotten():
    """A channel of which nothing is known any more begins anew."""
    set_up()
    with client() as streams:
        channel, _ = streams.open_channel("lane")
        send(channel, [1])
        committed(channel, 1)
        control("POST", "/channels/forget", {"channel": "lane"})
        channel.close()
        _, status = streams.open_channel("lane")
        assert status.latest_committed_offset_token is None, status


def rejected():
    """Rows that the service refuses at the commit."""
    set_up()
    with client() as streams:
        channel, _ = streams.open_channel("lane")
        arm("commit", "reject", rows=[1], message="not today")
        send(channel, [1, 2, 3])
        committed(channel, 3)
        status = channel.get_channel_status()
        assert (status.rows_error_count, status.last_error_message) == (1, "not today"), status
    assert ids() == [1, 3]


def expiry():
    """Tokens that expire are renewed without an interruption."""
    set_up()
    with client() as streams:
        channel, _ = streams.open_channel("lane")
        send(channel, [1])
        committed(channel, 1)
        control("POST", "/expire-tokens")
        send(channel, [2])
        committed(channel, 2)
    assert ids() == [1, 2]
    assert 401 in [one["status"] for one in control("GET", "/requests")]
