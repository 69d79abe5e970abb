"""The SDK at work, for the benchmark: `pace.py TASK HUB EVENTS BYTES`, where EVENT_HUBS says which port. Prints a line when
all is sent or has come, and ends when its input does, so that what it has spent can be read before."""

import asyncio
import sys
import threading

from azure.eventhub import EventData
from azure.eventhub.aio import EventHubConsumerClient, EventHubProducerClient
from space import connection_string, consumer, producer

PREFETCH = 300


def shares(partitions, events):
    """So many events for each partition."""
    return [(partition, events // len(partitions)) for partition in partitions]


def send(hub, bodies, events):
    """One batch after the other, each as full as it can be, the partitions in turn."""
    with producer(eventhub_name=hub) as client:
        left = dict(shares(client.get_partition_ids(), events))
        while any(left.values()):
            for partition in left:
                batch = client.create_batch(partition_id=partition)
                left[partition] -= fill(batch, bodies, left[partition])
                if len(batch):
                    client.send_batch(batch)
        done()


def send_async(hub, bodies, events):
    """The same, all partitions at once."""

    async def lane(client, partition, left):
        while left:
            batch = await client.create_batch(partition_id=partition)
            left -= fill(batch, bodies, left)
            await client.send_batch(batch)

    async def work():
        client = EventHubProducerClient.from_connection_string(connection_string(), eventhub_name=hub)
        async with client:
            all_shares = shares(await client.get_partition_ids(), events)
            await asyncio.gather(*(lane(client, *share) for share in all_shares))
            done()

    asyncio.run(work())


def fill(batch, bodies, most):
    for number in range(most):
        try:
            batch.add(EventData(bodies[number % len(bodies)]))
        except ValueError:
            return number
    return most


def receive(hub, _, events):
    """A thread for each partition, as the SDK does it."""
    client = consumer(eventhub_name=hub, prefetch=PREFETCH)
    came, lock, all_here = [0], threading.Lock(), threading.Event()

    def on_batch(_, batch):
        with lock:
            came[0] += len(batch)
            if came[0] >= events:
                all_here.set()

    arguments = {"on_event_batch": on_batch, "max_batch_size": PREFETCH, "starting_position": "-1"}
    threading.Thread(target=client.receive_batch, kwargs=arguments, daemon=True).start()
    all_here.wait()
    done()
    client.close()


def receive_async(hub, _, events):
    """A task for each partition, as the SDK does it."""

    async def work():
        came, all_here = 0, asyncio.Event()

        async def on_batch(_, batch):
            nonlocal came
            came += len(batch)
            if came >= events:
                all_here.set()

        client = EventHubConsumerClient.from_connection_string(
            connection_string(), "$Default", eventhub_name=hub, prefetch=PREFETCH
        )
        async with client:
            task = asyncio.create_task(
                client.receive_batch(on_batch, max_batch_size=PREFETCH, starting_position="-1")
            )
            await all_here.wait()
            done()
            task.cancel()

    asyncio.run(work())


def done():
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    task, hub, count, size = sys.argv[1:]
    # The SDK does not look into bodies, so it is all the same what they are.
    globals()[task](hub, [bytes([65 + number]) * int(size) for number in range(26)], int(count))
