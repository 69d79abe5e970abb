"""Tokens, properties and what is refused."""

import base64
import hashlib
import hmac
import json
import time
import urllib.parse

from azure.core.credentials import AccessToken
from azure.eventhub import EventData, EventHubProducerClient
from azure.eventhub.exceptions import AuthenticationError, ConnectError, EventHubError
from receiving import Reading
from space import HUB, PORTS, arm, consumer, control, happened, options, producer, stored, wait_until


def properties():
    with producer() as client:
        hub = client.get_eventhub_properties()
        made = control("GET", f"/hubs/{HUB}")
        assert hub["eventhub_name"] == HUB and round(hub["created_at"].timestamp() * 1000) == made["created"], hub
        assert hub["partition_ids"] == ["0", "1", "2", "3"], hub
        empty = client.get_partition_properties("2")
        assert empty["is_empty"] and empty["last_enqueued_sequence_number"] == -1, empty
        assert empty["last_enqueued_offset"] == "-1", empty
        for number in range(3):
            client.send_event(EventData(str(number)), partition_id="2")
        full, last = client.get_partition_properties("2"), stored("2")[-1]
        assert not full["is_empty"] and full["beginning_sequence_number"] == 0, full
        assert full["last_enqueued_sequence_number"] == 2 and full["last_enqueued_offset"] == last["offset"], full
        assert round(full["last_enqueued_time_utc"].timestamp() * 1000) == last["enqueued"], full


def transport():
    """There and back over the transport that is asked for."""
    with producer() as client:
        client.send_event(EventData("there and back"), partition_id="0")
    reading = Reading(consumer(), partition_id="0", starting_position="-1").wait(1).stop()
    assert reading.events[0][1].body_as_str() == "there and back"


def _refused(act, *errors):
    try:
        act()
    except errors as error:
        return str(error)
    raise AssertionError("it was not refused")


def strangers():
    """Wrong keys, rules without the right, hubs and groups that are not there."""
    wrong = producer(key="wrong", retry_total=0)
    _refused(lambda: wrong.send_event(EventData("x")), AuthenticationError, ConnectError)
    _refused(lambda: wrong.get_partition_ids(), AuthenticationError, ConnectError, EventHubError)
    reader = Reading(consumer(key="wrong", retry_total=0), partition_id="0", starting_position="-1")
    wait_until("a consumer to be refused", lambda: reader.errors)
    reader.stop()
    elsewhere = producer(eventhub_name="elsewhere", retry_total=0)
    _refused(lambda: elsewhere.send_event(EventData("x")), EventHubError)
    grouped = Reading(consumer(group="nobody", retry_total=0), partition_id="0", starting_position="-1")
    wait_until("an unknown group to be refused", lambda: any("not be found" in str(e) for e in grouped.errors))
    grouped.stop()
    # A rule that may only listen.
    control("PATCH", "/settings", {"rules": [{"name": "RootManageSharedAccessKey", "key": "k", "rights": ["Listen"]}]})
    text = _refused(lambda: producer(key="k", retry_total=0).send_event(EventData("x")), EventHubError)
    assert "'Send' claim(s) are required" in text, text
    assert all(not stored(partition) for partition in "0123")


class Sas:
    """A credential whose tokens live `life` seconds."""

    token_type = b"servicebus.windows.net:sastoken"

    def __init__(self, life):
        self.life = life

    def get_token(self, *scopes, **_):
        expiry = int(time.time()) + self.life
        resource = urllib.parse.quote_plus(scopes[0])
        signature = hmac.new(b"SAS_KEY_VALUE", f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
        signature = urllib.parse.quote_plus(base64.b64encode(signature))
        return AccessToken(
            f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn=RootManageSharedAccessKey", expiry
        )


class Entra:
    """A credential with tokens of the emulator's own Entra."""

    def __init__(self, *roles):
        self.roles = [f"Azure Event Hubs Data {role}" for role in roles]

    def get_token(self, *_, **__):
        expiry = int(time.time()) + 3600
        claims = {"aud": "https://eventhubs.azure.net", "exp": expiry, "roles": self.roles}
        text = ".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
        signature = _encode(hmac.new(b"only-for-tests", text.encode(), hashlib.sha256).digest())
        return AccessToken(f"{text}.{signature}", expiry)


def _encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _with(credential):
    address = f"localhost:{PORTS['amqp']}"
    return EventHubProducerClient(address, credential=credential, use_tls=False, **{**options(), "retry_total": 0})


def entra():
    with _with(Entra("Sender")) as client:
        client.send_event(EventData("with a token of Entra"), partition_id="0")
    assert len(stored("0")) == 1
    text = _refused(lambda: _with(Entra("Receiver")).send_event(EventData("x")), EventHubError)
    assert "'Send' claim(s) are required" in text, text


def renewal():
    """Tokens that live ten seconds: the SDK renews them on the same connection, and nothing is interrupted."""
    sent = 0
    with _with(Sas(10)) as client:

        def renewed():
            nonlocal sent
            client.send_event(EventData(str(sent)), partition_id="0")
            sent += 1
            return any(
                sum(token["accepted"] for token in connection["tokens"]) >= 3 and
                any(link["role"] == "producer" for link in connection["links"])
                for connection in control("GET", "/connections") if not connection["ended"]
            )

        wait_until("two renewals", renewed)
    assert len(stored("0")) == sent


def expiry():
    """A token that is not renewed takes its links with it."""
    with producer() as client:
        client.send_event(EventData("before"), partition_id="0")
        reading = Reading(consumer(), partition_id="0", starting_position="-1").wait(1)
        assert control("POST", "/expire-tokens")["count"] >= 2
        client.send_event(EventData("after"), partition_id="0")
        reading.wait(2).stop()
    assert [event.body_as_str() for _, event in reading.events] == ["before", "after"]


def throttled_requests():
    """`$management` and `$cbs` that are busy at first."""
    with producer() as client:
        fault = arm("management", "refuse")
        assert client.get_partition_ids() == ["0", "1", "2", "3"]
        assert happened(fault) == 1
    fault = arm("token", "refuse", condition="com.microsoft:timeout")
    with producer() as client:
        client.send_event(EventData("x"))
    assert happened(fault) == 1
