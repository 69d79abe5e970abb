"""Producers that post events to an agent, and keep the ledger of what it acknowledged.

    python3 load.py ADDRESS LEDGER    runs until standard input ends

An event is posted once, under a number of its own: when the answer is lost, it may be there or not, and the next request
has new events. The ledger has a line for each event: "acknowledged ID", "refused ID" or "unknown ID".
"""
import http.client
import pathlib
import sys
import threading
import time

PRODUCERS = 4
BATCH = 20


def produce(name, address, ledger, stop):
    """Posts batches, one after another, until told to stop."""
    connection, number = None, 0
    while not stop.is_set():
        ids = [f"{name}-{number + i}" for i in range(BATCH)]
        number += BATCH
        body = "".join(f'{{"id":"{id}"}}\n' for id in ids)
        try:
            connection = connection or http.client.HTTPConnection(address, timeout=30)
            connection.connect() if connection.sock is None else None
        except OSError:
            time.sleep(0.05)
            continue
        try:
            connection.request("POST", "/events", body, {"content-type": "application/x-ndjson"})
            answer = connection.getresponse()
            answer.read()
            outcome = "acknowledged" if answer.status == 202 else "refused"
        except (OSError, http.client.HTTPException):
            connection, outcome = None, "unknown"
        with ledger[0]:
            ledger[1].writelines(f"{outcome} {id}\n" for id in ids)


def main(address, path):
    """Runs the producers."""
    stop = threading.Event()
    with open(path, "w", buffering=1) as file:
        ledger = threading.Lock(), file
        producers = [threading.Thread(target=produce, args=(f"p{i}", address, ledger, stop)) for i in range(PRODUCERS)]
        for producer in producers:
            producer.start()
        sys.stdin.read()
        stop.set()
        for producer in producers:
            producer.join()


def read(path):
    """The ledger: the ids by outcome."""
    found = {"acknowledged": [], "refused": [], "unknown": []}
    for line in pathlib.Path(path).read_text().splitlines():
        outcome, id = line.split()
        found[outcome].append(id)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
