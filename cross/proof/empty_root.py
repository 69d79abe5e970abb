"""A root directory with the binary, its config and nothing else: no /proc, /dev, /etc or /tmp. DNS, TLS, time zones and
locale work there, and what is missing is said."""

import datetime
import json
import os
import re
import shutil
import subprocess
import time

from agent import HTTP_PORT, Agent, Failed, connection, post, wait_until
from servers import Broker, NameServer

IN_DNS, IN_HOSTS = "broker.plant.example", "hosts-only.plant.example"

COMMON = f"""
[agent]
data_dir = "/data"

[sources.app]
type = "http"
listen = "127.0.0.1:{HTTP_PORT}"

[sources.host]
type = "host"

[sinks.files]
type = "file"
inputs = {{inputs}}
path = "/out"
"""

MQTT = """
[sources.{name}]
type = "mqtt"
url = "{url}"
topics = ["plant/#"]
"""

TRUSTING = """
[sources.{name}.tls]
ca_file = "/ca.pem"
"""

NOT_TRUSTED = "no authority that is trusted here signed it: name the one that did as ca_file"


def config(sources):
    """The config with the MQTT sources `sources`: a name, a URL and whether /ca.pem is trusted."""
    text = COMMON.format(inputs=json.dumps(["app", "host", *(name for name, _, _ in sources)]))
    for name, url, trusting in sources:
        text += MQTT.format(name=name, url=url) + (TRUSTING.format(name=name) if trusting else "")
    return text


class Root:
    def __init__(self, path, emulator, binary):
        self.path = path
        os.mkdir(path)
        shutil.copy(binary, self.inside("forebay"))
        self.command = ["/forebay"]
        if emulator:
            shutil.copy(emulator, self.inside("emulator"))
            self.command = ["/emulator", "/forebay"]

    def inside(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.inside(name)), exist_ok=True)
        with open(self.inside(name), "w") as file:
            file.write(text)

    def forebay(self, *words):
        odd = {"TZ": ":America/St_Johns", "LANG": "tr_TR.UTF-8", "LC_ALL": "nowhere"}
        return Agent(self.command, [*words, "--config", "/forebay.toml"], self.path, odd)

    def events(self):
        if not os.path.isdir(self.inside("out")):
            return []
        names = sorted(name for name in os.listdir(self.inside("out")) if name.endswith(".ndjson"))
        lines = [line for name in names for line in open(os.path.join(self.inside("out"), name))]
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for_event_of(self, stream, agent):
        def found():
            return next((event for event in self.events() if event["stream"] == stream), None)

        return wait_until(f"an event of {stream} in the file", found, agent)


def certificates(directory):
    """An authority, and a certificate that it signed for both names: its PEM, and the paths of certificate and key."""

    def path(name):
        return os.path.join(directory, name)

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def key(name):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path(name))

    key("ca.key")
    openssl("req", "-x509", "-new", "-key", path("ca.key"), "-subj", "/CN=Plant", "-days", "30", "-out", path("ca.pem"))
    key("server.key")
    openssl("req", "-new", "-key", path("server.key"), "-subj", "/CN=broker", "-out", path("server.csr"))
    with open(path("names"), "w") as file:
        file.write(f"subjectAltName=DNS:{IN_DNS},DNS:{IN_HOSTS}\n")
    signed_by = ["-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-set_serial", "1"]
    openssl("x509", "-req", "-in", path("server.csr"), *signed_by, "-days", "30", "-extfile", path("names"), "-out",
            path("server.pem"))  # fmt: skip
    with open(path("ca.pem")) as file:
        return file.read(), (path("server.pem"), path("server.key"))


def check_time(event):
    stamp = event["time"]
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", stamp):
        raise Failed(f"{stamp} is no time in UTC")
    written = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    if abs(time.time() - written) > 600:
        raise Failed(f"{stamp} is not now: a time zone has moved it")


def nothing_but_a_kernel(root, ca):
    names = NameServer(IN_DNS)
    sources = [
        ("plain", f"mqtt://{IN_DNS}:1883", False),
        ("trusting", f"mqtts://{IN_DNS}:8883", True),
        ("stranger", f"mqtts://{IN_DNS}:8883", False),
    ]
    root.write("ca.pem", ca)
    root.write("forebay.toml", config(sources))
    root.forebay("check").end()
    agent = root.forebay("run")
    agent.wait_to_say("listening on")
    if not post(connection(), ['{"from":"a program"}']):
        raise Failed("no acknowledgement; the agent said:\n" + agent.said())
    check_time(root.wait_for_event_of("app", agent))
    root.wait_for_event_of("plain", agent)
    root.wait_for_event_of("trusting", agent)
    agent.wait_to_say(NOT_TRUSTED)
    agent.wait_to_say("/proc/stat: No such file")
    root.forebay("status").end()
    agent.stop()
    names.close()
    if IN_DNS not in names.asked:
        raise Failed("the name server was not asked")


def with_hosts_and_roots(root, ca):
    root.write("etc/hosts", f"127.0.0.1 {IN_HOSTS}\n")
    root.write("etc/ssl/certs/ca-certificates.crt", ca)
    root.write("forebay.toml", config([("system", f"mqtts://{IN_HOSTS}:8883", False)]))
    agent = root.forebay("run")
    root.wait_for_event_of("system", agent)
    agent.stop()


def run(emulator, binary, directory):
    ca, server = certificates(directory)
    Broker(1883), Broker(8883, server)
    nothing_but_a_kernel(Root(os.path.join(directory, "nothing"), emulator, binary), ca)
    with_hosts_and_roots(Root(os.path.join(directory, "hosts"), emulator, binary), ca)
    return (
        "in an empty root: checks, runs, says what is missing; DNS by 127.0.0.1:53 and by /etc/hosts; TLS refuses a"
        " private CA, takes it as ca_file and from the system's roots; times are UTC whatever TZ and LANG say"
    )
