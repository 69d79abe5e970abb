"""A container without systemd: install, check, run, remove, purge, and what is left behind."""
from .root import expect

# The config of the package, as its user, for long enough to write a first reading.
RUN = """
setpriv --reuid forebay --regid forebay --init-groups forebay run &
for _ in $(seq 100); do
    [ ! -s /var/lib/forebay/events/files-00000001.ndjson ] || break
    sleep 0.1
done
forebay status
kill $! && wait $!
grep -q '"memory"' /var/lib/forebay/events/*.ndjson
"""
# Directories that an rpm distribution's own packages have, and this root has not.
OTHERS = {"/usr/share/licenses", "/usr/share/fish", "/usr/share/fish/vendor_completions.d", "/usr/share/zsh/site-functions"}


def installs_runs_and_leaves_nothing(manager, proof):
    """The default config runs as installed. Removal keeps data, config and user; purge keeps nothing."""
    with proof.root(manager) as root:
        before = root.files()
        manager.install(root, "now")
        installed = root.files()
        user = root("id", "--user", "forebay").strip()
        for path, mode, owner in [("/etc/forebay", "0o40750", "0"), ("/etc/forebay/conf.d", "0o40750", "0"),
                                  ("/etc/forebay/forebay.toml", "0o100640", "0"), ("/var/lib/forebay", "0o40750", user)]:
            expect(installed[path][:2] == (mode, int(owner)), f"{path} is {installed[path]}")
        expect("adm" in root("id", "--name", "--groups", "forebay"), "forebay is not in the group adm")
        said = root("setpriv", "--reuid", "forebay", "--regid", "forebay", "--init-groups", "forebay", "check")
        expect("error " not in said, said)
        said = root("sh", "-e", "-c", RUN)
        expect("stopped" in said, said)

        root.write("/etc/forebay/conf.d/10-mine.toml", '[agent]\nid = "gw-1"\n')
        manager.remove(root)
        kept = root.files()
        for path in ["/var/lib/forebay/buffer.db", "/var/lib/forebay/events/files-00000001.ndjson",
                     "/etc/forebay/conf.d/10-mine.toml"]:
            expect(path in kept, f"removal took {path}")
        root("id", "forebay")
        expect("/usr/bin/forebay" not in kept, "removal left the program")

        manager.purge(root)
        left = root.files()
        expect(not changed(before, left), f"not as before: {changed(before, left)}")


def changed(before, after):
    """What is not as it was."""
    paths = before.keys() | after.keys()
    return {path: (before.get(path), after.get(path)) for path in paths
            if before.get(path) != after.get(path) and path not in OTHERS}


def makes_its_user_without_systemd_too(manager, proof):
    """The same user, where there is no systemd-sysusers."""
    with proof.root(manager) as root:
        root("mv", "/usr/bin/systemd-sysusers", "/root/")
        manager.install(root, "now")
        expect("adm" in root("id", "--name", "--groups", "forebay"), "forebay is not in the group adm")
        entry = root("getent", "passwd", "forebay").strip()
        expect(entry.endswith(":/var/lib/forebay:/usr/sbin/nologin"), entry)


ALL = [installs_runs_and_leaves_nothing, makes_its_user_without_systemd_too]
