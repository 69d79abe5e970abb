"""Producing. What has come, the test that runs this judges."""

import json
import uuid

from azure.eventhub import EventData
from azure.eventhub.amqp import AmqpAnnotatedMessage, AmqpMessageProperties
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


def _message(device, number):
    """One with a body of each kind in turn: JSON, text, bytes, no bytes, a number, a map and a sequence."""
    body = [
        {"data_body": json.dumps({"device": device, "number": number, "level": 0.25})},
        {"data_body": f"{device} said \N{SNOWMAN} {number}"},
        {"data_body": b"\xff\x00" + str(number).encode()},
        {"data_body": b""},
        {"value_body": number},
        {"value_body": {"number": number, "nothing": None}},
        {"sequence_body": [number, "two", 0.5]},
    ][number % 7]
    return AmqpAnnotatedMessage(
        properties=AmqpMessageProperties(message_id=f"{device}-{number}", subject="s", content_type="text/plain"),
        application_properties={
            "number": number,
            "text": "é",
            "ratio": 0.5,
            "yes": True,
            "bytes": b"\x00\xff",
            "tags": ["é", number, [True]],
            "by": {"name": "é"},
        },
        annotations={},
        **body,
    )


def telemetry(count):
    """So many events of 40 devices, keyed by device, with properties, and bodies of every kind."""
    with producer() as client:
        for start in range(0, int(count), 25):
            device = f"device-{start // 25 % 40}"
            batch = client.create_batch(partition_key=device)
            for number in range(start, min(start + 25, int(count))):
                batch.add(_message(device, number))
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
