"""A root that cannot be written to, and a partition for the data."""
import tempfile

from .root import expect


def runs_on_a_read_only_root(manager, proof):
    """Installed while the image was made, run from it read-only: only the data partition keeps anything."""
    with proof.root(manager) as root, tempfile.TemporaryDirectory(dir="/var/tmp") as data:
        manager.install(root, "now")
        before = root.files()
        options = ["--read-only", f"--bind={data}:/var/lib/forebay", "--tmpfs=/var/log"]
        for start in range(2):
            with root.booted(*options) as machine:
                machine("sh", "-c", "! touch /etc/probe 2>/dev/null")
                machine("systemctl", "start", "forebay")
                machine.wait_active()
                generation = machine("forebay", "status", "--json").split('"generation": "')[1].split('"')[0]
                if start == 0:
                    first = generation
                else:
                    expect(generation == first, "the buffer was not kept")
        expect(root.files() == before, "something was written to the root")


ALL = [runs_on_a_read_only_root]
