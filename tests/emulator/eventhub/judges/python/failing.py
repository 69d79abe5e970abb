"""Producing while things go wrong. The SDK sends again what is not acknowledged: nothing is lost, and what was stored
already is there twice."""

import threading

from azure.eventhub import EventData
from azure.eventhub.exceptions import EventHubError
from space import arm, control, happened, producer, stored, wait_until

# phase, action, more, and how often the event is there afterwards.
SURVIVED = [
    ("store", "drop", {}, 1),
    ("store", "drop", {"how": "finish"}, 1),
    ("store", "close", {}, 1),
    ("store", "refuse", {"wait_seconds": 1}, 1),
    ("store", "refuse", {"condition": "com.microsoft:timeout"}, 1),
    ("store", "refuse", {"condition": "com.microsoft:operation-cancelled"}, 1),
    ("store", "refuse", {"condition": "amqp:internal-error"}, 1),
    ("store", "detach", {"condition": "amqp:link:detach-forced"}, 1),
    ("store", "detach", {"condition": "amqp:link:transfer-limit-exceeded"}, 1),
    ("store", "detach", {"condition": "amqp:unauthorized-access"}, 1),
    ("store", "detach", {"condition": "amqp:resource-limit-exceeded"}, 1),
    ("acknowledge", "drop", {}, 2),
    ("acknowledge", "drop", {"how": "finish"}, 2),
    ("acknowledge", "cut", {"how": "finish"}, 2),
    ("acknowledge", "detach", {}, 2),
    ("acknowledge", "close", {}, 2),
    ("acknowledged", "drop", {}, 1),
    ("acknowledged", "detach", {}, 1),
    ("acknowledged", "close", {}, 1),
    ("attach", "refuse", {}, 1),
    ("attach", "drop", {}, 1),
    ("token", "drop", {}, 1),
    ("connect", "drop", {}, 1),
]

# What the SDK gives up on, and says why.
PERMANENT = [
    "amqp:link:message-size-exceeded",
    "amqp:not-found",
    "amqp:not-allowed",
    "com.microsoft:argument-error",
    "com.microsoft:argument-out-of-range",
    "com.microsoft:entity-disabled",
]


def survived():
    for number, (phase, action, more, times) in enumerate(SURVIVED):
        with producer() as client:
            # Faults of a link strike one that is there.
            if phase in ("store", "acknowledge", "acknowledged"):
                client.send_event(EventData("warm"), partition_id="0")
            before = len(stored("0"))
            fault = arm(phase, action, **more)
            client.send_event(EventData(f"event {number}"), partition_id="0")
            client.send_event(EventData("after"), partition_id="0")
            assert happened(fault) == 1, (phase, action, more)
        came = [_body(event) for event in stored("0")[before:]]
        assert came == [f"event {number}"] * times + ["after"], (phase, action, more, came)


def _body(event):
    return bytes.fromhex(event["body"]).decode()


def permanent():
    for condition in PERMANENT:
        with producer(retry_total=0) as client:
            client.send_event(EventData("warm"), partition_id="1")
            # This SDK does not look at the condition of a detached link; the JavaScript one does.
            arm("store", "refuse", times=100, condition=condition, description=f"because of {condition}")
            try:
                client.send_event(EventData("x"), partition_id="1")
                raise AssertionError(f"{condition} went unnoticed")
            except EventHubError as error:
                assert condition in str(error), (condition, error)
            control("DELETE", "/faults")
    assert len(stored("1")) == len(PERMANENT)


def _in_silence(phase, end):
    """A send meets silence; `end` ends it."""
    with producer() as client:
        client.send_event(EventData("warm"), partition_id="2")
        fault = arm(phase, "silence")
        sending = threading.Thread(target=client.send_event, args=(EventData("x"),), kwargs={"partition_id": "2"})
        sending.start()
        wait_until("the silence", lambda: happened(fault) == 1)
        end()
        sending.join()


def silence():
    """A network that is silent before the acknowledgement and then is not: it comes, late. One that is silent before
    the event is stored, and then gone: the event is sent again."""
    _in_silence("acknowledge", lambda: control("POST", "/network", {"state": "up"}))
    assert len(stored("2")) == 2
    _in_silence("store", lambda: control("POST", "/disconnect", {}))
    assert len(stored("2")) == 4


def outage():
    """The namespace is away, and comes back on the same port."""
    with producer(retry_total=20) as client:
        client.send_event(EventData("warm"), partition_id="0")
        control("POST", "/network", {"state": "down"})
        timer = threading.Timer(0.5, control, args=("POST", "/network", {"state": "up"}))
        timer.start()
        client.send_event(EventData("after"), partition_id="0")
        timer.join()
    assert [_body(event) for event in stored("0")] == ["warm", "after"]


def idle():
    """A producer that has had nothing to send for long: its link is detached, and the next event still goes out."""
    with producer() as client:
        client.send_event(EventData("warm"), partition_id="0")
        control("PATCH", "/settings", {"idle_link_ms": 300})
        client.send_event(EventData("again"), partition_id="0")
        wait_until("the link to be idle", lambda: not any(
            link["role"] == "producer" and not link["ended"]
            for connection in control("GET", "/connections") for link in connection["links"] if not connection["ended"]
        ))
        client.send_event(EventData("at last"), partition_id="0")
    assert [_body(event) for event in stored("0")] == ["warm", "again", "at last"]
