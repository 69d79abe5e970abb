"""A root that cannot be written to, and a partition for the data."""
import tempfile

from .root import expect


def runs_on_a_read_only_root(manager, proof):
    """Installed while the image was made, run from it read-only: only the data partition keeps anything."""
    with proof.root(manager) as root, tempfile.TemporaryDirectory(dir="/var/tmp") as data:
        manager.install(root, "now")
        before = root.files()
        options = ["--read-only", f"--bind={data}:/var/lib/forebay", "--tmpfs=/var/log"]
        generations = []
        for _ in range(2):
            with root.booted(*options) as machine:
                machine("sh", "-c", "! touch /etc/probe 2>/dev/null")
                machine("systemctl", "start", "forebay")
                machine.wait_active()
                generations.append(machine.generation())
        expect(generations[0] == generations[1], "the buffer was not kept")
        expect(root.files() == before, "something was written to the root")


ALL = [runs_on_a_read_only_root]
