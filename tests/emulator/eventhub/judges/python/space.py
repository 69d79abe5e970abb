"""The namespace under judgement, as `azure-eventhub` and the control port see it.

The environment variable EVENT_HUBS describes it: `ports`, `transport`, and for TLS the files `authority`, and
`certificate` and `key` of a client that has them.
"""

import json
import os
import ssl
import time
import urllib.request

from azure.eventhub import EventHubConsumerClient, EventHubProducerClient, TransportType

SPACE = json.loads(os.environ["EVENT_HUBS"])
PORTS = SPACE["ports"]
HUB = "judged"
# The longest that anything is waited for, in seconds.
DEADLINE = 120


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORTS['control']}{path}", method=method, data=data)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        text = answer.read().decode()
    if answer.headers["content-type"] == "application/x-ndjson":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def stored(partition):
    return control("GET", f"/hubs/{HUB}/partitions/{partition}/events")


def arm(phase, action, **detail):
    return control("POST", "/faults", {"phase": phase, "action": action, **detail})["id"]


def happened(fault):
    return next(armed["happened"] for armed in control("GET", "/faults") if armed["id"] == fault)


def wait_until(what, condition):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < DEADLINE, f"waited in vain for {what}"
        time.sleep(0.02)


def connection_string(key="SAS_KEY_VALUE"):
    port = PORTS["amqp"]
    return (
        f"Endpoint=sb://localhost:{port};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey={key};"
        "UseDevelopmentEmulator=true"
    )


def options():
    """What the SDK is told besides, for the transport that is asked for."""
    transport = SPACE.get("transport", "amqp")
    told = {"eventhub_name": HUB, "retry_backoff_factor": 0.05}
    if transport.startswith("ws"):
        told["transport_type"] = TransportType.AmqpOverWebsocket
    if transport != "amqp":
        told["custom_endpoint_address"] = f"sb://localhost:{PORTS[transport]}"
    if transport == "amqps":
        told["transport_type"] = TransportType.Amqp
    if transport in ("amqps", "wss"):
        context = ssl.create_default_context(cafile=SPACE["authority"])
        if "certificate" in SPACE:
            context.load_cert_chain(SPACE["certificate"], SPACE["key"])
        told["ssl_context"] = context
    return told


def _string(key):
    secure = SPACE.get("transport", "amqp") in ("amqps", "wss")
    return connection_string(key).replace(";UseDevelopmentEmulator=true", "") if secure else connection_string(key)


def producer(key="SAS_KEY_VALUE", **more):
    return EventHubProducerClient.from_connection_string(_string(key), **{**options(), **more})


def consumer(group="$Default", key="SAS_KEY_VALUE", **more):
    return EventHubConsumerClient.from_connection_string(_string(key), group, **{**options(), **more})
