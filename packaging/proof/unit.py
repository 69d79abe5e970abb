"""The unit under a real systemd: readiness, restarts, the watchdog and reloads."""
import contextlib
import json

from .root import expect, run, wait_for

DROP_INS = "/etc/systemd/system/forebay.service.d"


@contextlib.contextmanager
def installed(manager, proof):
    """A booted machine with the package, and its service ready."""
    with proof.root(manager) as root, root.booted() as machine:
        manager.install(machine, "now")
        machine.wait_active()
        yield machine


def configure(machine, name, text):
    """Puts a file into conf.d."""
    machine.root.write(f"/etc/forebay/conf.d/{name}.toml", text)


def drop_in(machine, text):
    """Changes the unit, for the next start."""
    machine.root.write(f"{DROP_INS}/proof.conf", text)
    machine("systemctl", "daemon-reload")


def events(machine, directory="var/lib/forebay/events"):
    """What the file sink has written."""
    files = sorted((machine.root.path / directory).glob("*.ndjson"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def post(machine, port, body, *options):
    """An event, which must be acknowledged."""
    answer = run(*machine.enter("--net"), "curl", "--silent", "--show-error", "--max-time", "10",
                 "--header", "content-type: application/json", "--data", body, "--write-out", "%{http_code}", *options,
                 f"http://127.0.0.1:{port}/events")
    expect(answer.endswith("202"), answer)


def is_ready_when_systemd_says_so(manager, proof):
    """The start is over when the agent answers; its output is in the journal with its levels."""
    with installed(manager, proof) as machine:
        machine("systemctl", "restart", "forebay")
        machine.get("/health")
        expect(machine.show("StatusText").endswith("all well"), machine.show("StatusText"))
        expect(machine.show("UnitFileState") == "enabled", machine.show("UnitFileState"))
        lines = machine("journalctl", "--unit", "forebay", "--output", "json").splitlines()
        started = [line for line in map(json.loads, lines) if " starts as " in line["MESSAGE"]]
        expect(len(started) == 2 and started[0]["PRIORITY"] == "6", f"{started}")
        wait_for("the first reading", lambda: events(machine))


def comes_back_after_a_kill(manager, proof):
    """kill -9, a start that fails for long, and it runs again."""
    with installed(manager, proof) as machine:
        drop_in(machine, "[Service]\nRestartSec=100ms\n")
        machine("systemctl", "restart", "forebay")
        for count in range(1, 8):
            process = machine.wait_active()
            machine.kill("KILL", process)
            wait_for("a restart", lambda: machine.show("NRestarts") == str(count))
        machine.wait_active()
        expect("opened after a crash" in machine.journal(), machine.journal())

        # Nothing can be written: it fails and fails, and is there at once when it is mended.
        machine("chown", "root:root", "/var/lib/forebay/buffer.db.lock")
        machine.kill("KILL", machine.show("MainPID"))
        wait_for("many restarts", lambda: int(machine.show("NRestarts")) > 20)
        machine("chown", "forebay:forebay", "/var/lib/forebay/buffer.db.lock")
        machine.wait_active()


def a_stuck_agent_is_killed_by_the_watchdog(manager, proof):
    """One that is fed is left alone for many periods; one that does nothing more is started again."""
    with installed(manager, proof) as machine:
        drop_in(machine, "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\nRestartSec=100ms\n")
        machine("systemctl", "restart", "forebay")
        process = machine.wait_active()
        fed = lambda: int(machine.show("WatchdogTimestampMonotonic"))
        begin = fed()
        wait_for("five periods of the watchdog", lambda: fed() > begin + 5_000_000)
        expect(machine.show("MainPID") == process, "an agent that is well was restarted")
        machine.kill("STOP", process)
        wait_for("the watchdog", lambda: machine.show("NRestarts") == "1")
        machine.wait_active()
        expect("Watchdog timeout" in machine.journal(), machine.journal())


def a_bad_config_is_not_tried_again_and_again(manager, proof):
    """It fails at once and says why; when it is mended it starts."""
    with installed(manager, proof) as machine:
        configure(machine, "10-bad", "[sources.x]\ntype = \"htp\"\n")
        machine("systemctl", "restart", "forebay", fails=True)
        state = [machine.show(name) for name in ["ActiveState", "Result", "ExecMainStatus", "NRestarts"]]
        expect(state == ["failed", "exit-code", "2", "0"], f"{state}")
        expect("10-bad.toml:2" in machine.journal(), machine.journal())
        machine("rm", "/etc/forebay/conf.d/10-bad.toml")
        machine("systemctl", "restart", "forebay")
        machine.wait_active()


def a_reload_changes_what_changed(manager, proof):
    """The process stays; a config that is wrong changes nothing."""
    with installed(manager, proof) as machine:
        process = machine.wait_active()
        configure(machine, "20-app", "[sources.app]\ntype = \"http\"\nlisten = \"127.0.0.1:8080\"\n"
                  "[sinks.app]\ntype = \"file\"\ninputs = [\"app\"]\npath = \"/var/lib/forebay/app\"\n")
        machine("systemctl", "reload", "forebay")
        wait_for("the new source", lambda: "source app: running" in machine.journal())
        post(machine, 8080, '{"n": 1}')
        configure(machine, "30-bad", "nonsense = 1\n")
        machine("systemctl", "reload", "forebay")
        wait_for("the refusal", lambda: "30-bad.toml:1" in machine.journal())
        post(machine, 8080, '{"n": 2}')
        expect(machine.wait_active() == process, "a reload restarted the agent")


ALL = [is_ready_when_systemd_says_so, comes_back_after_a_kill, a_stuck_agent_is_killed_by_the_watchdog,
       a_bad_config_is_not_tried_again_and_again, a_reload_changes_what_changed]
