"""The hardening of the unit: what sources and sinks need works within it, and the drop-ins that open it further."""
import json
import pathlib
import re
import subprocess
import sys

from .root import expect, run, wait_for
from .unit import DROP_INS, configure, drop_in, events, installed, post

# Waits for one connection on each port, and prints the first byte that comes: 0x10 is MQTT's CONNECT, and Postgres is
# asked for encryption with a length of 8.
LISTENER = """
import socket, sys
for port in (1883, 5432):
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(60)
        peer, _ = server.accept()
        peer.settimeout(60)
        print(port, peer.recv(8)[:4].hex(), flush=True)
"""
SOURCES = """
[sources.logs]
type = "tail"
include = ["/var/log/app/*.log"]

[sources.app]
type = "http"
listen = "127.0.0.1:8080"

[sources.line]
type = "mqtt"
url = "mqtt://127.0.0.1:1883"
topics = ["a/#"]

[sinks.all]
type = "file"
inputs = ["logs", "app", "line"]
path = "/srv/events"

[sinks.warehouse]
type = "postgres"
inputs = ["app"]
url = "postgresql://ingest@127.0.0.1/plant"
table = "t"
"""


def every_source_and_sink_works_within_the_hardening(manager, proof):
    """tail reads what the group adm may, http listens, mqtt and postgres connect, files go to /srv."""
    with installed(manager, proof) as machine:
        machine("install", "-d", "-o", "forebay", "-g", "forebay", "/srv/events")
        machine.root.write("/var/log/app/one.log", "a line of the log\n")
        machine("chown", "-R", "root:adm", "/var/log/app")
        machine("chmod", "750", "/var/log/app")
        machine("chmod", "640", "/var/log/app/one.log")
        listener = subprocess.Popen([*machine.enter("--net"), sys.executable, "-c", LISTENER], stdout=subprocess.PIPE,
                                    text=True)
        configure(machine, "10-sources", SOURCES)
        machine("systemctl", "restart", "forebay")
        wait_for("the source app", lambda: "source app: running" in machine.journal())
        post(machine, 8080, '{"from": "http"}')
        wait_for("both events in the files",
                 lambda: {"app", "logs"} <= {event["stream"] for event in events(machine, "srv/events")})
        said, _ = listener.communicate(timeout=120)
        expect([line.split()[1][:2] for line in said.splitlines()] == ["10", "00"], f"what connected said {said}")


def the_host_source_sees_the_machine_as_it_is(manager, proof):
    """The same program without the unit reads the same of this machine."""
    with installed(manager, proof) as machine:
        outside = "/root/outside"
        machine.root.write("/root/outside.toml", machine.root.path.joinpath("etc/forebay/forebay.toml").read_text()
                           .replace("/var/lib/forebay", outside).replace("[agent]", f"[agent]\ndata_dir = \"{outside}\"\nruntime_dir = \"{outside}\"")
                           + "\n[observe]\nlisten = \"off\"\n")
        machine("systemd-run", "--unit=free", "/usr/bin/forebay", "--config", "/root/outside.toml", "run")
        both = [wait_for("a reading", lambda: events(machine, directory) or None)
                for directory in ["var/lib/forebay/events", f"{outside[1:]}/events"]]
        expect(len(both[0]) >= 4, f"{both[0]}")
        inside, outside = [{event["headers"]["collector"]: shape(event["body"]) for event in reading[:6]} for reading in both]
        expect(inside == outside, f"inside: {inside}\noutside: {outside}")


def shape(body):
    """A reading without what changes from one moment to the next."""
    body = json.loads(body) if isinstance(body, str) else body
    lasting = ("mount", "device", "type", "total_bytes", "total_inodes", "interface", "sensor")
    if isinstance(body, dict):
        return {key: shape(value) if isinstance(value, (dict, list)) else value if key in lasting else "…"
                for key, value in body.items()}
    return [shape(item) for item in body] if isinstance(body, list) else "…"


CLOCK = """
#include <stdio.h>
#include <sys/time.h>
#include <sys/timex.h>
int main(void) {
    struct timex query = {0};
    struct timeval now;
    gettimeofday(&now, 0);
    printf("asked %d, set %d\\n", adjtimex(&query) < 0 ? -1 : 0, settimeofday(&now, 0));
}
"""


def the_clock_may_be_asked(manager, proof):
    """adjtimex(2), by which the agent knows whether the clock is synchronised, is allowed; to set the clock is not."""
    with installed(manager, proof) as machine:
        run("cc", "-static", "-x", "c", "-o", machine.root.path / "usr/local/bin/clock", "-", input=CLOCK)
        drop_in(machine, "[Service]\nExecStartPre=/usr/local/bin/clock\n")
        machine("systemctl", "restart", "forebay")
        expect("asked 0, set -1" in machine.journal(), machine.journal())


def the_example_drop_ins_work(manager, proof):
    """Each drop-in of the documentation, as it is: credentials, other directories, a port below 1024, root's own logs."""
    with installed(manager, proof) as machine:
        examples = machine.root.path / "usr/share/doc/forebay/examples/systemd"
        for secret in ["pg", "mqtt"]:
            machine.root.write(f"/etc/forebay/credentials/{secret}", "secret")
            machine("chmod", "600", f"/etc/forebay/credentials/{secret}")
        machine("install", "-d", "-o", "forebay", "-g", "forebay", "/opt/archive")
        machine.root.write("/var/log/private.log", "for root alone\n")
        machine("chmod", "600", "/var/log/private.log")
        configure(machine, "10-all", """
[sources.app]
type = "http"
listen = "127.0.0.1:80"
token_file = "${CREDENTIALS_DIRECTORY}/pg"
[sources.logs]
type = "tail"
include = ["/var/log/private.log"]
[sinks.all]
type = "file"
inputs = ["app", "logs"]
path = "/opt/archive"
""")
        for example in sorted(examples.glob("*.conf")):
            machine.root.write(f"{DROP_INS}/{example.name}", example.read_text())
        machine("systemctl", "daemon-reload")
        machine("systemctl", "restart", "forebay")
        wait_for("the source app", lambda: "source app: running" in machine.journal())
        post(machine, 80, '{"from": "port 80"}', "--header", "Authorization: Bearer secret")
        wait_for("both events in the files", lambda: {"app", "logs"} <= {event["stream"] for event in events(machine, "opt/archive")})
        # Commands that are typed outside of the unit read the same config.
        machine("forebay", "status")
        machine("runuser", "-u", "forebay", "--", "forebay", "check")
        mode = oct(next((machine.root.path / "opt/archive").glob("*.ndjson")).stat().st_mode)
        expect(mode == "0o100640", f"the group cannot read the files: {mode}")


def the_dashboard_draws_what_there_is(manager, proof):
    """Every metric of the dashboard is one that a running agent has, and every one of the agent's is drawn."""
    dashboard = pathlib.Path("packaging/grafana.json").read_text()
    json.loads(dashboard)
    drawn = set(re.findall(r"forebay_[a-z_]+", dashboard))
    with installed(manager, proof) as machine:
        declared = re.findall(r"^# TYPE (\S+) (\S+)$", machine.get("/metrics"), re.M)
        there = {name + ("_total" if kind == "counter" else "") for name, kind in declared}
        expect(drawn == there, f"drawn, and not there: {drawn - there}\nthere, and not drawn: {there - drawn}")


ALL = [every_source_and_sink_works_within_the_hardening, the_host_source_sees_the_machine_as_it_is, the_clock_may_be_asked,
       the_example_drop_ins_work, the_dashboard_draws_what_there_is]
