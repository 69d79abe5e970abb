"""The SDK and the agent on one table, one after the other. What a hub has stored is there to be streamed for both.

The rows and the tokens here are made from what is documented of the agent, and not by it.
"""

import base64
import json
import re
import urllib.request
import uuid
from datetime import datetime, timedelta

from account import DEADLINE, PUBLIC, USER, client, control

# Rows in one append.
BATCH = 20
TOKEN = re.compile(r"forebay/1/([0-9a-f]{32})/([0-9a-f]{16})/(\d+)/(\d+)")
EPOCH = datetime(1970, 1, 1)


def _client():
    control("PUT", f"/users/{USER}", {"public_key": PUBLIC, "roles": ["ACCOUNTADMIN"]})
    # It asks for two minutes whether what is uncommitted has come to an end, before it opens a channel all the same.
    return client(role="ACCOUNTADMIN", open_channel_409_retry_total_backoff_seconds=2)


def tells(channel):
    """Prints what the SDK says of a channel, which it does not open."""
    with _client() as streams:
        status = streams.get_channel_statuses([channel])[channel]
        told = {
            "status": status.status_code,
            "committed": status.latest_committed_offset_token,
            "rows": status.rows_inserted_count,
            "errors": status.rows_error_count,
        }
        assert told["committed"] == streams.get_latest_committed_offset_tokens([channel])[channel], told
        print(json.dumps(told))


def takes(channel):
    """Opens a channel, and writes nothing. Prints its token."""
    with _client() as streams:
        print(json.dumps(streams.open_channel(channel)[1].latest_committed_offset_token))


def writes(channel, hub, partition, generation):
    """Goes on in a channel behind its token, with all that the hub's partition has by now. Prints the token then."""
    created = json.loads(_get(hub))["created"]
    events = [json.loads(line) for line in _get(f"{hub}/partitions/{partition}/events").splitlines()]
    with _client() as streams:
        lane, status = streams.open_channel(channel)
        assert (status.status_code, status.rows_error_count) == ("SUCCESS", 0), status
        events = [one for one in events if one["sequence_number"] > _offset(status.latest_committed_offset_token)]
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            first, last = (
                f"forebay/1/{generation}/{created * 1000:016x}/{batch[at]['sequence_number']}/0" for at in (0, -1)
            )
            lane.append_rows([_row(partition, event) for event in batch], first, last)
            lane.initiate_flush()
            lane.wait_for_commit(lambda token, last=last: token == last, DEADLINE)
        print(json.dumps(lane.get_latest_committed_offset_token()))
        lane.close()


def _get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return answer.read().decode()


def _offset(token):
    """How far a token comes."""
    if token is None:
        return -1
    known = TOKEN.fullmatch(token)
    assert known, token
    return int(known[3])


def _row(partition, event):
    enqueued = _time(event["enqueued"])
    system = {
        "x-opt-sequence-number": event["sequence_number"],
        "x-opt-offset": event["offset"],
        "x-opt-enqueued-time": enqueued,
    }
    properties = {**event.get("properties", {}), **event.get("application_properties", {})}
    return {
        "EVENT_BODY": bytes.fromhex(event["body"]).decode(),
        "PARTITION_ID": partition,
        "SEQUENCE_NUMBER": event["sequence_number"],
        "ENQUEUED_TIME": enqueued,
        "PROPERTIES": _text({name: _value(*value.popitem()) for name, value in properties.items()}),
        "SYSTEM_PROPERTIES": _text(system),
        "INGESTION_TIMESTAMP": _time(event["enqueued"]),
    }


def _time(milliseconds):
    return (EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="microseconds") + "Z"


def _value(kind, value):
    match kind:
        case "binary":
            return base64.b64encode(bytes.fromhex(value)).decode()
        case "uuid":
            return str(uuid.UUID(value))
    return value


def _text(members):
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))
