"""Consuming."""

import json
import threading
import time
from datetime import datetime, timezone

from azure.eventhub import EventData
from azure.eventhub._eventprocessor.in_memory_checkpoint_store import InMemoryCheckpointStore
from space import DEADLINE, HUB, arm, consumer, control, happened, producer, stored, wait_until


class Reading:
    """A consumer client at work in a thread. `events` and `errors` fill up."""

    def __init__(self, client, checkpoint=False, **receive):
        self.client, self.events, self.errors, self.contexts = client, [], [], {}

        def on_event(context, event):
            if event is None:
                return
            self.events.append((context.partition_id, event))
            self.contexts[context.partition_id] = context
            if checkpoint:
                context.update_checkpoint(event)

        def on_error(context, error):
            self.errors.append(error)

        def on_event_batch(context, events):
            for event in events:
                on_event(context, event)

        # The SDK comes to a crawl with single events once the first credit is used up.
        many = "max_batch_size" in receive
        handler = {"on_event_batch": on_event_batch} if many else {"on_event": on_event}
        arguments = {**handler, "on_error": on_error, **receive}
        work = client.receive_batch if many else client.receive
        self.thread = threading.Thread(target=work, kwargs=arguments, daemon=True)
        self.thread.start()

    def wait(self, count):
        wait_until(f"{count} events", lambda: len(self.events) >= count)
        return self

    def stop(self):
        self.client.close()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        return self

    def numbers(self):
        return [event.sequence_number for _, event in self.events]


def everything(count):
    """Reads so many events from the beginning and prints them."""
    reading = Reading(consumer(), starting_position="-1", max_batch_size=300).wait(int(count)).stop()
    for partition, event in reading.events:
        key = (event.properties or {}).get(b"forebay_key")
        print(json.dumps({
            "partition": partition,
            "sequence_number": event.sequence_number,
            "offset": event.offset,
            "enqueued": round(event.enqueued_time.timestamp() * 1000),
            "partition_key": event.partition_key and event.partition_key.decode(),
            "body": event.body_as_str(),
            "message_id": event.message_id,
            "number": (event.properties or {}).get(b"number"),
            "key": key.decode() if isinstance(key, bytes) else key,
        }))


def positions():
    """Every kind of starting position, in a partition with events 0 to 9, of which 5 to 9 came later."""
    with producer() as client:
        for half in (range(5), range(5, 10)):
            batch = client.create_batch(partition_id="1")
            for number in half:
                batch.add(EventData(str(number)))
            client.send_batch(batch)
            time.sleep(0.01)
    events = stored("1")
    at = {event["sequence_number"]: event for event in events}
    later = datetime.fromtimestamp(at[5]["enqueued"] / 1000, timezone.utc)
    before = datetime.fromtimestamp(at[4]["enqueued"] / 1000, timezone.utc)
    for position, inclusive, first in [
        ("-1", False, 0),
        (at[3]["offset"], False, 4),
        (at[3]["offset"], True, 3),
        (3, False, 4),
        (3, True, 3),
        (later, True, 5),
        (before, False, 5),
    ]:
        reading = Reading(
            consumer(), partition_id="1", starting_position=position, starting_position_inclusive=inclusive
        )
        reading.wait(10 - first).stop()
        assert reading.numbers() == list(range(first, 10)), (position, inclusive, reading.numbers())

    latest = Reading(consumer(), partition_id="1", starting_position="@latest")
    wait_until("a consumer", lambda: any(
        link["role"] == "consumer" and not link["ended"]
        for connection in control("GET", "/connections") if not connection["ended"] for link in connection["links"]
    ))
    with producer() as client:
        client.send_event(EventData("new"), partition_id="1")
    assert latest.wait(1).stop().numbers() == [10]


class Store(InMemoryCheckpointStore):
    """One that tells who has what."""

    def __init__(self):
        super().__init__()
        self.owners = {}

    def claim_ownership(self, ownership_list, **kwargs):
        claimed = list(super().claim_ownership(ownership_list, **kwargs))
        self.owners.update({one["partition_id"]: one["owner_id"] for one in claimed})
        return claimed

    def shares(self):
        owners = [owner for owner in self.owners.values() if owner]
        return sorted(owners.count(owner) for owner in set(owners))


def balance():
    """Two clients share the partitions by the SDK's load balancing; what one leaves, the other goes on with."""
    store = Store()
    more = {"checkpoint_store": store, "load_balancing_interval": 0.2, "partition_ownership_expiration_interval": 20}
    with producer() as client:
        partitions = client.get_partition_ids()

    def send(text):
        with producer() as client:
            for partition in partitions:
                client.send_event(EventData(text), partition_id=partition)

    count = len(partitions)
    send("first")
    one = Reading(consumer(**more), starting_position="-1", checkpoint=True).wait(count)
    two = Reading(consumer(**more), starting_position="-1", checkpoint=True)
    wait_until("fair shares", lambda: store.shares() == [count // 2, count // 2])
    send("second")
    wait_until("the second round", lambda: len(one.events) + len(two.events) >= 2 * count)
    assert len(two.events) == count // 2, two.events
    one.stop()
    send("third")
    wait_until("the other to take all over", lambda: len(one.events) + len(two.events) >= 3 * count)
    two.stop()
    seen = sorted((partition, event.sequence_number) for partition, event in one.events + two.events)
    assert seen == sorted((partition, number) for partition in partitions for number in range(3)), seen


def owner_level():
    """A higher owner level takes a partition away, and a lower one does not get it."""
    first = Reading(consumer(), partition_id="0", starting_position="-1", owner_level=1)
    with producer() as client:
        client.send_event(EventData("a"), partition_id="0")
    first.wait(1)
    second = Reading(consumer(), partition_id="0", starting_position="-1", owner_level=2).wait(1)
    wait_until("the first to lose it", lambda: any("epoch" in str(error) for error in first.errors))
    third = Reading(consumer(retry_total=0), partition_id="0", starting_position="-1", owner_level=1)
    wait_until("the third to be refused", lambda: any("higher epoch" in str(error) for error in third.errors))
    fourth = Reading(consumer(retry_total=0), partition_id="0", starting_position="-1")
    wait_until("one without a level to be refused", lambda: any("non-epoch" in str(error) for error in fourth.errors))
    assert not third.events and not fourth.events and not second.errors
    for reading in (first, second, third, fourth):
        reading.stop()


def usurp(partition, level):
    """Takes a partition from whoever reads it at a lower level, and lets it go."""
    Reading(consumer(), partition_id=partition, starting_position="-1", owner_level=int(level)).wait(1).stop()


def last_enqueued():
    """Each event says how far the partition is."""
    with producer() as client:
        batch = client.create_batch(partition_id="0")
        for number in range(5):
            batch.add(EventData(str(number)))
        client.send_batch(batch)
    reading = Reading(
        consumer(), partition_id="0", starting_position="-1", track_last_enqueued_event_properties=True
    ).wait(5)
    told = reading.contexts["0"].last_enqueued_event_properties
    last = stored("0")[-1]
    assert told["sequence_number"] == 4 and told["offset"] == last["offset"], told
    assert round(told["enqueued_time"].timestamp() * 1000) == last["enqueued"], told
    assert told["retrieval_time"] >= told["enqueued_time"], told
    reading.stop()


def recreated():
    """Positions of a hub that was made again are refused, and its creation time is another."""
    with producer() as client:
        before = client.get_eventhub_properties()["created_at"]
        for number in range(3):
            client.send_event(EventData(str(number)), partition_id="0")
    last = stored("0")[-1]
    # With retries this SDK tries a position that is refused again for ever, and tells nobody.
    reading = Reading(consumer(retry_total=0), partition_id="0", starting_position="-1").wait(3)
    control("PUT", f"/hubs/{HUB}", {"partitions": 2})
    wait_until("the consumer to be told", lambda: reading.errors)
    reading.stop()
    with producer() as client:
        assert client.get_eventhub_properties()["created_at"] > before
        assert client.get_partition_ids() == ["0", "1"]
        assert client.get_partition_properties("0")["is_empty"]
    for position in (last["offset"], last["sequence_number"]):
        reading = Reading(consumer(retry_total=0), partition_id="0", starting_position=position)
        wait_until("a refusal", lambda: any("is invalid" in str(error) for error in reading.errors))
        reading.stop()


def opaque_offsets():
    """A geo-replicated namespace: offsets are no numbers, an event's own one resumes, and a number is refused."""
    with producer() as client:
        for number in range(4):
            client.send_event(EventData(str(number)), partition_id="0")
        told = client.get_partition_properties("0")["last_enqueued_offset"]
    reading = Reading(consumer(), partition_id="0", starting_position="-1").wait(4).stop()
    offset = reading.events[1][1].offset
    assert not offset.isdigit(), offset
    resumed = Reading(consumer(), partition_id="0", starting_position=offset).wait(2).stop()
    assert resumed.numbers() == [2, 3]
    refused = Reading(consumer(retry_total=0), partition_id="0", starting_position=told)
    wait_until("a refusal", lambda: any("invalid-offset" in str(error) for error in refused.errors))
    refused.stop()


def retention():
    """What retention took is skipped, and the properties of the partition say so."""
    with producer() as client:
        for number in range(6):
            client.send_event(EventData(str(number)), partition_id="0")
    first = stored("0")[0]
    control("DELETE", f"/hubs/{HUB}/partitions/0/events", {"before": 4})
    for position in ("-1", first["offset"], first["sequence_number"]):
        reading = Reading(consumer(), partition_id="0", starting_position=position).wait(2).stop()
        assert reading.numbers() == [4, 5], position
    control("DELETE", f"/hubs/{HUB}/partitions/0/events", {"before": 6})
    with producer() as client:
        told = client.get_partition_properties("0")
    assert told["is_empty"] and told["last_enqueued_sequence_number"] == 5, told
    control("PUT", f"/hubs/{HUB}", {"retention_ms": 1})
    with producer() as client:
        client.send_event(EventData("short-lived"), partition_id="0")
        wait_until("it to be too old", lambda: client.get_partition_properties("0")["is_empty"])


def torn():
    """Whatever cuts a consumer off, it goes on where it was: each event once, in order. (The end of a session leaves
    this SDK waiting for ever, here and where it sends.)"""
    with producer() as client:
        batch = client.create_batch(partition_id="0")
        for number in range(200):
            batch.add(EventData(str(number)))
        client.send_batch(batch)
    for action, detail in [
        ("drop", {"how": "reset"}),
        ("drop", {"how": "finish"}),
        ("cut", {"how": "finish"}),
        ("detach", {"condition": "amqp:link:detach-forced"}),
        ("detach", {"condition": "amqp:internal-error"}),
        ("close", {}),
    ]:
        fault = arm("deliver", action, skip=70, **detail)
        reading = Reading(consumer(), partition_id="0", starting_position="-1").wait(200).stop()
        assert happened(fault) == 1, (action, detail)
        assert reading.numbers() == list(range(200)), (action, detail, reading.numbers())
