"""Clean Debian roots: made from the archive for this run, a layer of its own for each test, run as a container or booted."""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time


# Nothing outside of the container knows of it, and it has no network but its own loopback.
NSPAWN = ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--private-network", "--resolv-conf=off",
          "--timezone=off",
          # Without it, systemd-nspawn forbids what the unit allows: to ask whether the clock is synchronised.
          "--system-call-filter=adjtimex clock_adjtime"]


class Failed(Exception):
    """What a test found."""


def run(*command, fails=False, input="", **options):
    """Runs a command and gives what it printed. Its failing is a finding, or with `fails` its success is."""
    done = subprocess.run([str(word) for word in command], input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", **options)
    if (done.returncode != 0) != fails:
        raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def wait_for(what, condition, seconds=120):
    """Waits until `condition` gives something, and gives that."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{seconds} s were not enough for: {what}")
        time.sleep(0.1)


def expect(holds, finding):
    """A finding, unless it holds."""
    if not holds:
        raise Failed(finding)


# What package managers and the system write down of every package, whichever it is.
KEPT_BY_OTHERS = ("/var/lib/dpkg/", "/var/lib/rpm/", "/var/log/", "/var/cache/", "/etc/.pwd.lock", "/etc/ld.so.cache",
                  "/var/lib/systemd/deb-systemd-helper-masked", "/root/")
# The system's files that name the user while there is one, and their backups.
ACCOUNTS = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")


class Root:
    """A directory that holds a whole system. Commands run in it without systemd, and without a network but loopback."""

    def __init__(self, base):
        self.layer = pathlib.Path(tempfile.mkdtemp(prefix="forebay-root-", dir="/var/tmp"))
        self.path = self.layer / "root"
        for name in ["root", "changes", "work"]:
            (self.layer / name).mkdir(mode=0o755)
        run("mount", "-t", "overlay", "-o", f"lowerdir={base},upperdir={self.layer}/changes,workdir={self.layer}/work",
            "overlay", self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        run("umount", self.path)
        shutil.rmtree(self.layer)

    def __call__(self, *command, **options):
        said = run(*NSPAWN, "--as-pid2", "--pipe", "--directory", self.path, *command, **options)
        # systemd-nspawn 252 says of each end that it left a directory of its own alone.
        return "".join(line for line in said.splitlines(keepends=True) if not line.startswith("Attempted to remove"))

    def write(self, path, content):
        """Writes a file below the root, with the directories that it is in."""
        file = self.path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def files(self):
        """Every file there is, with mode and owner; of the accounts what they say."""
        found = {}
        for directory, names, files in os.walk(self.path):
            for name in names + files:
                path = os.path.join(directory, name)
                inside = path.removeprefix(str(self.path))
                if inside.startswith(("/proc/", "/sys/", "/dev/", "/run/", "/tmp/")) or inside.startswith(KEPT_BY_OTHERS):
                    continue
                if inside.rstrip("-").removeprefix("/etc/") in ACCOUNTS:
                    found[inside.rstrip("-")] = sorted(pathlib.Path(path.rstrip("-")).read_text().splitlines())
                    continue
                status = os.lstat(path)
                found[inside] = (oct(status.st_mode), status.st_uid, status.st_gid)
        return found

    @contextlib.contextmanager
    def booted(self, *options):
        """The system with its own systemd as process 1."""
        log = open(self.layer / "console", "wb")
        container = subprocess.Popen(
            [*NSPAWN, "--boot", "--directory", str(self.path), "--link-journal=no", *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"})
        try:
            init = wait_for("the container's process 1", lambda: self.init_of(container), 20)
            machine = Machine(self, init)
            wait_for("a system that has started", machine.is_up)
            yield machine
        finally:
            # systemd-nspawn passes it on as a request to power off.
            container.terminate()
            try:
                container.wait(60)
            except subprocess.TimeoutExpired:
                container.kill()
                container.wait()
            log.close()

    @staticmethod
    def init_of(container):
        """The process of `container` that is process 1 in there."""
        expect(container.poll() is None, "systemd-nspawn ended")
        for parent in [container.pid, *children(container.pid)]:
            for child in children(parent):
                with contextlib.suppress(OSError):
                    status = pathlib.Path(f"/proc/{child}/status").read_text()
                    if status.split("NSpid:")[1].split("\n")[0].split()[1:] == ["1"] and "systemd" in status:
                        return child
        return None


def children(pid):
    """The processes that `pid` started."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []


class Machine:
    """A booted root. Commands run in it as root."""

    def __init__(self, root, init):
        self.root, self.init = root, init

    def enter(self, *namespaces):
        """The words that come before a command that runs in there."""
        return ["nsenter", "--target", self.init, *namespaces]

    def __call__(self, *command, **options):
        inside = self.enter("--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
        return run(*inside, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", *command, **options)

    def kill(self, signal, process):
        """Sends a signal; the program of that name is not in every root."""
        self("sh", "-c", f"kill -{signal} {process}")

    def is_up(self):
        """Whether systemd has started everything, in whatever state."""
        with contextlib.suppress(Failed):
            return self("systemctl", "is-system-running", "--wait") is not None
        with contextlib.suppress(Failed):
            return self("systemctl", "is-system-running", fails=True).strip() == "degraded"
        return False

    def show(self, name, unit="forebay.service"):
        """A property of a unit."""
        return self("systemctl", "show", "--property", name, "--value", unit).strip()

    def journal(self):
        """What the agent has logged, and systemd of it."""
        return self("journalctl", "--unit", "forebay.service", "--output", "cat")

    def starts(self):
        """How often the agent has started."""
        return self.journal().count(" starts as ")

    def generation(self):
        """Which buffer it is."""
        return json.loads(self("forebay", "status", "--json"))["buffer"]["generation"]

    def get(self, path, port=9600):
        """A page of the agent's, by HTTP."""
        return run(*self.enter("--net"), "curl", "--silent", "--show-error", "--max-time", "10",
                   f"http://127.0.0.1:{port}{path}")

    def wait_active(self):
        """Waits until the service is ready, and gives its process."""
        wait_for("the service to be active", lambda: self.show("ActiveState") == "active" and self.show("SubState") == "running")
        return self.show("MainPID")
