"""The real job: events come in over HTTP and go out into files, while the agent is killed under load and started again."""

import json
import os
import random
import threading
import time
from collections import Counter

from agent import HTTP_PORT, Agent, Failed, connection, post, wait_until

CONFIG = """
[agent]
data_dir = "{dir}/data"
runtime_dir = "{dir}/run"

[sources.line]
type = "http"
listen = "127.0.0.1:{port}"

[sinks.files]
type = "file"
inputs = ["line"]
path = "{dir}/out"
max_file_bytes = "256KiB"
"""

KILLS = 5
PRODUCERS = 4


class Ledger:
    """What was promised to whom: kept here, outside of the process that is killed."""

    def __init__(self):
        self.acknowledged, self.unanswered = [], []

    def enter(self, ids, answer):
        if answer is not False:
            (self.unanswered if answer is None else self.acknowledged).extend(ids)


def produce(lane, ledger, stop, failures):
    try:
        chance, number = random.Random(lane), 0
        while not stop.is_set():
            ids = [f"{lane}:{number + n}" for n in range(chance.randint(1, 20))]
            events = [json.dumps({"id": id, "celsius": chance.random()}) for id in ids]
            answer = post(connection(), events)
            ledger.enter(ids, answer)
            if answer is False:
                time.sleep(0.02)
            else:
                number += len(ids)
    except Exception as failure:
        failures.append(failure)


def delivered(directory):
    """The ids in the files, in their order."""
    for name in sorted(os.listdir(directory)):
        if ".ndjson" in name:
            with open(os.path.join(directory, name)) as file:
                for line in file:
                    if line.endswith("\n"):
                        yield json.loads(line)["body"]["id"]


def judge(ledger, found):
    """What is wrong with the ids `found`, in the order in which they are in the files."""
    count = Counter(found)
    promised, possible = set(ledger.acknowledged), set(ledger.unanswered)
    wrong = [f"{id} was acknowledged and is lost" for id in promised - count.keys()]
    wrong += [f"{id} is there {times} times" for id, times in count.items() if times > 1]
    wrong += [f"{id} was never sent" for id in count.keys() - promised - possible]
    last = {}
    for id in found:
        lane, number = id.split(":")
        if int(number) < last.get(lane, -1):
            wrong.append(f"{id} is behind {lane}:{last[lane]}")
        last[lane] = int(number)
    return wrong


def run(command, directory):
    config = os.path.join(directory, "forebay.toml")
    with open(config, "w") as file:
        file.write(CONFIG.format(dir=directory, port=HTTP_PORT))
    ledger, stop, failures = Ledger(), threading.Event(), []

    def start():
        agent = Agent(command, ["run", "--config", config])
        agent.wait_to_say("listening on")
        return agent

    lanes = [f"lane{number}" for number in range(PRODUCERS)]
    producers = [threading.Thread(target=produce, args=(lane, ledger, stop, failures)) for lane in lanes]
    agent = start()
    for producer in producers:
        producer.start()
    try:
        for _ in range(KILLS):
            enough = len(ledger.acknowledged) + random.randint(100, 1000)
            wait_until("acknowledgements", lambda: len(ledger.acknowledged) >= enough or failures, agent)
            agent.kill()
            agent = start()
    finally:
        stop.set()
        for producer in producers:
            producer.join()
    if failures:
        raise failures[0]
    out = os.path.join(directory, "out")
    wait_until("every acknowledged event", lambda: not set(ledger.acknowledged) - set(delivered(out)), agent)
    agent.stop()
    found = list(delivered(out))
    wrong = judge(ledger, found)
    if wrong:
        raise Failed(f"{len(wrong)} faults: " + "; ".join(wrong[:10]))
    # The judge is judged: it has to miss an event that is taken away, and see one that is there twice.
    one = ledger.acknowledged[0]
    if not judge(ledger, [id for id in found if id != one]) or not judge(ledger, [*found, one]):
        raise Failed("a lost or a doubled event is not noticed")
    return (
        f"{len(ledger.acknowledged)} events acknowledged, {KILLS} times kill -9 under load: all of them in the files once,"
        f" in order ({len(ledger.unanswered)} unanswered, {len(found) - len(ledger.acknowledged)} of these are there)"
    )
