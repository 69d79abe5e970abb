"""The SDK at work, for the benchmark: `pace.py FORM PARTITIONS BODIES NUMBER...`. SNOWFLAKE says where the account is, and
BODIES is a file with a body on each line.

FORM is `waiting EVENTS`, so many in each partition: a batch, and its commit; or `pipelined EVENTS`: batch after batch, each
flushed at once, and the commit at the end. Or `steadily_waiting BATCH TICKS` and `steadily_pipelined BATCH TICKS`, where a batch
comes at each tick. A flush stays below 1 MiB, for above that the SDK sends files, which the emulator does not take. Prints, when
all is committed, how long each steady batch took from when it came to when its commit was seen, in milliseconds, and ends when
its input does, so that what it has spent can be read before.
"""

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from itertools import cycle, islice

ACCOUNT = json.loads(os.environ["SNOWFLAKE"])
# Before the SDK is loaded, which reads it.
os.environ["SSL_CERT_FILE"] = ACCOUNT["authority"]
os.environ.setdefault("SS_LOG_LEVEL", "warn")

from snowflake.ingest.streaming import StreamingIngestClient  # noqa: E402

# So many bytes of JSON are in a flush: what the SDK adds to them stays below 1 MiB.
FLUSH_BYTES = 900_000
# Between two batches that come to a partition, and between two looks at what is committed: seconds.
TICK, LOOK = 0.1, 0.01
# The longest that anything is waited for.
DEADLINE = 120


class Lane:
    """A partition and its channel."""

    def __init__(self, client, partition, bodies):
        self.channel, _ = client.open_channel(f"PACE_{partition}")
        self._partition, self._bodies, self._sent = str(partition), cycle(bodies), 0
        largest = {"event_body": max(bodies, key=len), **self._others(10**9)}
        self.most = FLUSH_BYTES // len(json.dumps(largest))

    def _others(self, number):
        now = datetime.now(UTC).isoformat()
        return {
            "partition_id": self._partition,
            "sequence_number": number,
            "enqueued_time": now,
            "properties": None,
            "system_properties": None,
            "ingestion_timestamp": now,
        }

    def append(self, count):
        """Sends a batch off. Returns the number of its last event."""
        first, others = self._sent + 1, self._others(0)
        self._sent += count
        bodies = islice(self._bodies, count)
        rows = [{"event_body": body, **others, "sequence_number": number} for number, body in enumerate(bodies, first)]
        self.channel.append_rows(rows, str(first), str(self._sent))
        self.channel.initiate_flush()
        return self._sent

    def committed(self):
        return int(self.channel.get_latest_committed_offset_token() or 0)

    def wait(self, number):
        self.channel.wait_for_commit(lambda token: int(token or 0) >= number, DEADLINE)


def waiting(lane, events):
    while events:
        count = min(events, lane.most)
        lane.wait(lane.append(count))
        events -= count


def pipelined(lane, events):
    last = 0
    while events:
        count = min(events, lane.most)
        last = lane.append(count)
        # Two flushes together would be one of more than 1 MiB.
        lane.channel.wait_for_flush(DEADLINE)
        events -= count
    lane.wait(last)


def steadily_waiting(lane, batch, ticks):
    """What came while a commit was waited for is the next batch."""
    begun, taken, took = time.monotonic(), 0, []
    while taken < ticks:
        come = min(ticks, int((time.monotonic() - begun) / TICK) + 1)
        come = min(come, taken + lane.most // batch)
        if come == taken:
            time.sleep(begun + taken * TICK - time.monotonic())
            continue
        lane.wait(lane.append((come - taken) * batch))
        seen = time.monotonic()
        took += [seen - begun - tick * TICK for tick in range(taken, come)]
        taken = come
    return took


def steadily_pipelined(lane, batch, ticks):
    """Each batch is flushed when it has come, and it is looked all the time what is committed."""
    begun, under_way, took, tick = time.monotonic(), [], [], 0
    while len(took) < ticks:
        now = time.monotonic()
        if tick < ticks and now >= begun + tick * TICK:
            under_way.append((begun + tick * TICK, lane.append(batch)))
            tick += 1
        committed = lane.committed()
        while under_way and under_way[0][1] <= committed:
            took.append(time.monotonic() - under_way.pop(0)[0])
        time.sleep(LOOK)
    return took


def main(form, partitions, bodies, *numbers):
    with open(bodies, encoding="utf-8") as file:
        bodies = file.read().splitlines()
    properties = {
        "account": ACCOUNT["account"],
        "user": ACCOUNT["user"],
        "url": f"https://127.0.0.1:{ACCOUNT['port']}",
        "authorization_type": "PAT",
        "personal_access_token": ACCOUNT["token"],
    }
    with StreamingIngestClient("pace", "PLANT", "PUBLIC", "EVENTS-STREAMING", properties=properties) as client:
        lanes = [Lane(client, partition, bodies) for partition in range(int(partitions))]
        took, failed = [], []

        def work(lane):
            try:
                took.extend(globals()[form](lane, *map(int, numbers)) or [])
            except BaseException as error:
                failed.append(error)
                raise

        threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            sys.exit(1)
        print(json.dumps([seconds * 1000 for seconds in took]), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
