"""Producing. What has come, the test that runs this judges."""

import json
import uuid

from azure.eventhub import EventData
from azure.eventhub.exceptions import EventHubError
from space import control, producer


def _send(client, bodies, **where):
    batch = client.create_batch(**where)
    for body in bodies:
        batch.add(EventData(body))
    client.send_batch(batch)


def keyed(*keys):
    """Three events for each key."""
    with producer() as client:
        for key in keys:
            _send(client, [f"{key}/{i}" for i in range(3)], partition_key=key)


def numbered(count):
    """So many events in each partition, in batches of 50, each with its number and properties of every type."""
    with producer() as client:
        for partition in client.get_partition_ids():
            for start in range(0, int(count), 50):
                batch = client.create_batch(partition_id=partition)
                for number in range(start, min(start + 50, int(count))):
                    event = EventData(f"{partition}/{number}")
                    event.properties = {
                        "number": number,
                        "text": "é",
                        "ratio": 0.5,
                        "yes": True,
                        "bytes": b"\x00\xff",
                        "id": uuid.UUID(int=number),
                    }
                    event.message_id = f"{partition}-{number}"
                    event.correlation_id = "c"
                    event.content_type = "text/plain"
                    batch.add(event)
                client.send_batch(batch)


def spread(count):
    """So many single events, wherever the hub puts them."""
    with producer() as client:
        for number in range(int(count)):
            client.send_event(EventData(str(number)))


def full():
    """One batch as full as the SDK lets it be; prints how many events. One event more is refused by the SDK, and a
    batch above the limit by the service."""
    with producer() as client:
        batch = client.create_batch(partition_id="0")
        count = 0
        while True:
            try:
                batch.add(EventData(b"x" * 1000))
            except ValueError:
                break
            count += 1
        client.send_batch(batch)
        try:
            client.create_batch().add(EventData(b"x" * 1_048_577))
            raise AssertionError("too large an event is in a batch")
        except ValueError:
            pass
        # The link has been told of 1 MiB already.
        control("PATCH", "/settings", {"max_message_size": 10_000})
        try:
            _send(client, ["x" * 20_000], partition_id="0")
            raise AssertionError("too large a batch is in the hub")
        except EventHubError:
            # A detached link is an unknown error to this SDK, whatever its condition.
            pass
        _send(client, ["after"], partition_id="0")
    print(json.dumps({"count": count}))
