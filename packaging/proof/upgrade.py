"""A booted machine: upgrade under load, the downgrade that is refused, and what a removal leaves."""
import json
import pathlib
import subprocess
import sys

from . import load
from .packages import OTHER_CONFIG
from .root import expect, wait_for

CONFIG = """
[agent]
id = "gw-1"

[sources.app]
type = "http"
listen = "127.0.0.1:8080"

[sinks.files]
type = "file"
inputs = ["app"]
path = "/srv/events"
format = "body"
max_file_bytes = "1MiB"
"""
# Long enough for batches in flight when the agent stops; the ledger's size is what is waited for.
ENOUGH = 2000


class Producers:
    """Programs that post events while the block runs, and the ledger of what was acknowledged."""

    def __init__(self, machine):
        self.ledger = f"{machine.root.layer}/ledger"
        self.process = subprocess.Popen([*machine.enter("--net"), sys.executable, load.__file__, "127.0.0.1:8080", self.ledger],
                                        stdin=subprocess.PIPE)

    def __enter__(self):
        self.more()
        return self

    def more(self):
        """Waits until more has been acknowledged, by the agent that runs now."""
        before = self.acknowledged()
        wait_for("more acknowledged events", lambda: self.acknowledged() >= before + ENOUGH)

    def acknowledged(self):
        """How many events were acknowledged."""
        path = pathlib.Path(self.ledger)
        return path.read_text().count("\nacknowledged ") if path.exists() else 0

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def judge(self, machine):
        """Every acknowledged event is in the files once, in the order of its producer; no other is there twice."""
        ledger = load.read(self.ledger)
        wait_for("everything to be delivered", lambda: "forebay_sink_pending_events" in (text := machine.get("/metrics")) and
                 all(line.endswith(" 0") for line in text.splitlines() if line.startswith("forebay_sink_pending_events{")))
        files = sorted((machine.root.path / "srv/events").glob("*.ndjson"))
        found = [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]
        expect(len(found) == len(set(found)), f"{len(found) - len(set(found))} events are there twice")
        lost = set(ledger["acknowledged"]) - set(found)
        expect(not lost, f"{len(lost)} of {len(ledger['acknowledged'])} acknowledged events are lost: {sorted(lost)[:5]}")
        strange = set(found) - set(ledger["acknowledged"]) - set(ledger["unknown"])
        expect(not strange, f"{len(strange)} events are there that were refused or never sent: {sorted(strange)[:5]}")
        for producer in range(load.PRODUCERS):
            numbers = [int(id.split("-")[1]) for id in found if id.startswith(f"p{producer}-")]
            expect(numbers == sorted(numbers), f"the events of p{producer} are out of order")
        return len(found)


def prepare(machine, manager):
    """Installs the earlier version, with the operator's own config, running."""
    machine("install", "-d", "-o", "root", "-g", "root", "/srv")
    manager.install(machine, "earlier")
    machine("install", "-d", "-o", "forebay", "-g", "forebay", "/srv/events")
    machine.root.write("/etc/forebay/forebay.toml", CONFIG)
    machine("systemctl", "enable", "forebay")
    machine("systemctl", "restart", "forebay")
    return machine.wait_active()


def upgrades_under_load_and_refuses_to_lose_the_buffer(manager, proof):
    """No acknowledged event is lost or doubled, one restart for each upgrade, and no downgrade across a schema."""
    with proof.root(manager) as root, root.booted() as machine:
        first = prepare(machine, manager)
        with Producers(machine) as producers:
            starts = machine.starts()
            manager.install(machine, "now")
            second = machine.wait_active()
            expect(second != first, "the upgrade did not restart the agent")
            producers.more()
            manager.install(machine, "later")
            producers.more()
            expect(machine.starts() == starts + 2, f"two upgrades and {machine.starts() - starts} starts")
        expect(root.path.joinpath("etc/forebay/forebay.toml").read_text() == CONFIG, "the operator's config was changed")
        beside = root.path.joinpath(manager.beside).read_text()
        expect(beside == pathlib.Path(OTHER_CONFIG).read_text(), f"beside it is {beside}")
        count = producers.judge(machine)

        # The later version's binary is the same, so its schema is put into the file for it.
        machine("systemctl", "stop", "forebay")
        buffer = root.path / "var/lib/forebay/buffer.db"
        content = buffer.read_bytes()
        expect(content[68:72] == b"FRBY", "this is no buffer")
        later = content[:60] + (99).to_bytes(4, "big") + content[64:]
        buffer.write_bytes(later)
        program = root.path / "usr/bin/forebay"
        before = (root.files(), program.read_bytes())
        said = manager.install(machine, "now", fails=True)
        expect("version 99" in said and "To go back all the same" in said, said)
        expect((root.files(), program.read_bytes()) == before and buffer.read_bytes() == later, "something was changed")

        # The config can name the directory in other ways.
        root.write("/etc/forebay/forebay.toml", 'agent.data_dir = "/var/lib/forebay"\n')
        said = manager.install(machine, "now", fails=True)
        expect("version 99" in said, said)

        # A write-ahead log may hold what the file does not say yet: then the program that is installed is believed.
        root.write("/etc/forebay/forebay.toml", CONFIG)
        buffer.write_bytes(content)
        log = buffer.with_name("buffer.db-wal")
        log.write_bytes(b"something")
        binary = program.read_bytes()
        program.write_text("#!/bin/sh\necho forebay 9.9.9\necho buffer schema 99\n")
        said = manager.install(machine, "now", fails=True)
        expect("version 99" in said, said)
        program.write_bytes(binary)
        log.unlink()

        # What the message says to do works.
        buffer.write_bytes(later)
        said = manager.install(machine, "now", fails=True)
        step = lambda number: next(line.split(". ", 1)[1] for line in said.splitlines() if line.strip().startswith(f"{number}. "))
        machine("sh", "-c", step(3))
        manager.install(machine, "now")
        machine("sh", "-c", step(5))
        machine.wait_active()
        expect(root.path.joinpath("var/lib/forebay/version-99/buffer.db").read_bytes() == later, "the buffer was changed")
        return f"{count} events"


def a_refused_downgrade_leaves_the_agent_running(manager, proof):
    """The agent that runs is not even restarted."""
    with proof.root(manager) as root, root.booted() as machine:
        manager.install(machine, "later")
        machine("systemctl", "start", "forebay")
        process = machine.wait_active()
        wait_for("a buffer", (root.path / "var/lib/forebay/buffer.db").exists)
        with open(root.path / "var/lib/forebay/buffer.db", "r+b") as buffer:
            buffer.seek(60)
            buffer.write((99).to_bytes(4, "big"))
        manager.install(machine, "now", fails=True)
        expect(machine.wait_active() == process, "the agent was restarted")


def a_data_partition_of_another_installation_is_taken_over(manager, proof):
    """What is there before the user is, and belongs to another number, is the agent's once it runs."""
    with proof.root(manager) as root, root.booted() as machine:
        machine("install", "-d", "-o", "12345", "-g", "12345", "-m", "750", "/var/lib/forebay", "/var/lib/forebay/events")
        manager.install(machine, "now")
        machine("systemctl", "start", "forebay")
        machine.wait_active()
        owner = machine("stat", "-c", "%U", "/var/lib/forebay/events").strip()
        expect(owner == "forebay", f"it belongs to {owner}")


def a_removal_stops_the_agent_and_keeps_the_data(manager, proof):
    """After a removal the service is gone and the data is there; the same version installed again goes on with it."""
    with proof.root(manager) as root, root.booted() as machine:
        prepare(machine, manager)
        with Producers(machine) as producers:
            pass
        first = machine.generation()
        manager.remove(machine)
        expect(machine.show("ActiveState") == "inactive", machine.show("ActiveState"))
        expect(root.path.joinpath("var/lib/forebay/buffer.db").exists(), "removal took the buffer")
        manager.install(machine, "now")
        root.write("/etc/forebay/forebay.toml", CONFIG)
        machine("systemctl", "restart", "forebay")
        machine.wait_active()
        expect(machine.generation() == first, "the buffer is another one")
        producers.judge(machine)
        manager.remove(machine)
        manager.purge(machine)
        for path in ["/etc/forebay", "/var/lib/forebay", "/usr/bin/forebay"]:
            expect(not root.path.joinpath(path[1:]).exists(), f"purge left {path}")
        expect("forebay" not in root.path.joinpath("etc/passwd").read_text(), "purge left the user")


ALL = [upgrades_under_load_and_refuses_to_lose_the_buffer, a_refused_downgrade_leaves_the_agent_running,
       a_data_partition_of_another_installation_is_taken_over,
       a_removal_stops_the_agent_and_keeps_the_data]
