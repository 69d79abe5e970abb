"""The account under judgement, as `snowpipe-streaming`, plain requests and the control port see it.

The environment variable SNOWFLAKE describes it: `ports`, and the file `authority`, which signed its certificate.
"""

import base64
import gzip
import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

ACCOUNT = json.loads(os.environ["SNOWFLAKE"])
PORTS = ACCOUNT["ports"]
# Before the SDK is loaded, which reads it.
os.environ["SSL_CERT_FILE"] = ACCOUNT["authority"]
os.environ.setdefault("SS_LOG_LEVEL", "warn")
# What a scenario prints is its own.
os.environ["SS_LOG_TARGET"] = "stderr"

import jwt  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402
from snowflake.ingest.streaming import StreamingIngestClient, StreamingIngestError  # noqa: E402

USER, ROLE, TABLE, PASSPHRASE = "INGEST", "LOADER", "PLANT.PUBLIC.EVENTS", "only a test"
PIPE = "/v2/streaming/databases/PLANT/schemas/PUBLIC/pipes/EVENTS-STREAMING"
# The longest that anything is waited for, in seconds.
DEADLINE = 120

KEY = rsa.generate_private_key(65537, 2048)
_DER = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
PUBLIC = base64.b64encode(_DER).decode()
FINGERPRINT = "SHA256:" + base64.b64encode(hashlib.sha256(_DER).digest()).decode()

SETUP = """
CREATE DATABASE PLANT; CREATE WAREHOUSE WH; CREATE ROLE LOADER;
CREATE TABLE PLANT.PUBLIC.EVENTS
    (ID NUMBER(5,0) NOT NULL, BODY VARCHAR(10), AT TIMESTAMP_NTZ, MORE VARIANT, OK BOOLEAN);
GRANT USAGE ON DATABASE PLANT TO ROLE LOADER; GRANT USAGE ON SCHEMA PLANT.PUBLIC TO ROLE LOADER;
GRANT USAGE ON WAREHOUSE WH TO ROLE LOADER; GRANT INSERT, SELECT ON TABLE PLANT.PUBLIC.EVENTS TO ROLE LOADER
"""


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORTS['control']}{path}", method=method, data=data)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        text = answer.read().decode()
    if answer.headers["content-type"] == "application/x-ndjson":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def set_up(**user):
    """A table, and a user with a role that may stream into it."""
    sql(SETUP)
    control("PUT", f"/users/{USER}", {"public_key": PUBLIC, "roles": [ROLE], "default_role": ROLE, **user})


def sql(text):
    """Statements with every right; the rows of the last one."""
    return control("POST", "/sql", {"statement": text})[-1]["rows"]


def arm(phase, action, **detail):
    return control("POST", "/faults", {"phase": phase, "action": action, **detail})["id"]


def happened(fault):
    return next(armed["happened"] for armed in control("GET", "/faults") if armed["id"] == fault)


def asked(operation):
    """The requests for an operation that have come."""
    return [one for one in control("GET", "/requests") if one.get("operation") == operation]


def ids():
    """The IDs that were committed, in order."""
    return [row["values"]["ID"] for row in control("GET", f"/tables/{TABLE}/rows")]


def wait_until(what, condition):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < DEADLINE, f"waited in vain for {what}"
        time.sleep(0.02)


def pem(passphrase=None):
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    return KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def client(name="judge", pipe="EVENTS-STREAMING", **properties):
    """The vendor's SDK, by default with the key."""
    usual = {
        "account": "testacct",
        "user": USER,
        "role": ROLE,
        "url": f"https://127.0.0.1:{PORTS['https']}",
    }
    secret = {} if "authorization_type" in properties else {"private_key": pem()}
    return StreamingIngestClient(name, "PLANT", "PUBLIC", pipe, properties={**usual, **secret, **properties})


def send(channel, numbers, **more):
    """One row for each number, which is its offset token too."""
    numbers = list(numbers)
    channel.append_rows([{"ID": number, **more} for number in numbers], str(numbers[0]), str(numbers[-1]))
    channel.initiate_flush()


def committed(channel, number):
    channel.wait_for_commit(lambda token: token is not None and int(token) >= number, DEADLINE)


def is_over(channel):
    """The SDK takes nothing more for it, once it has read why."""
    try:
        wait_until("the channel to be over", lambda: channel.append_row({"ID": 99}, "99"))
    except StreamingIngestError as error:
        assert "re-open" in str(error), error


@contextmanager
def closing(streams):
    """Closes it. The SDK may trip over a channel that it has given up by itself."""
    yield streams
    try:
        streams.close()
    except StreamingIngestError as error:
        assert "ClosedChannelError" in str(error), error


def token(life=3000, key=KEY, unit=1, **changes):
    """A key-pair JWT."""
    now = int(time.time() * unit)
    claims = {"iss": f"TESTACCT.{USER}.{FINGERPRINT}", "sub": f"TESTACCT.{USER}", "iat": now, "exp": now + life * unit}
    return jwt.encode({**claims, **changes}, key, "RS256")


def request(method, path, body=None, headers=None, bearer=None, kind="KEYPAIR_JWT"):
    """A plain request: the status, and the body as JSON where it is."""
    usual = {"accept": "application/json", "content-type": "application/json", "user-agent": "judge/1"}
    usual |= {"authorization": f"Bearer {bearer or token()}", "x-snowflake-authorization-token-type": kind}
    sent = {name: value for name, value in {**usual, **(headers or {})}.items() if value is not None}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    plain = urllib.request.Request(f"http://127.0.0.1:{PORTS['http']}{path}", data, sent, method=method)
    try:
        with urllib.request.urlopen(plain, timeout=DEADLINE) as answer:
            status, text, coding = answer.status, answer.read(), answer.headers["content-encoding"]
    except urllib.error.HTTPError as answer:
        status, text, coding = answer.code, answer.read(), None
    text = (gzip.decompress(text) if coding == "gzip" else text).decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def scoped(host="127.0.0.1"):
    """A scoped token, for the key."""
    form = f"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&scope={host}"
    status, answer = request("POST", "/oauth/token", form.encode())
    assert status == 200, answer
    return answer
