"""The packages under test, in three versions of the same binary, and the two package managers.

`earlier` is what is upgraded from, `now` what packaging/build makes, and `later` has another schema of the buffer and
another default config.
"""
import os
import pathlib
import tempfile

from .root import run

OTHER_CONFIG = "packaging/examples/host-to-file.toml"
VERSIONS = {"earlier": ["--version", "0.0.9"], "now": [],
            "later": ["--version", "9.9.9", "--schema", "99", "--config", OTHER_CONFIG]}
# What an rpm distribution has for our package to need, as one package: so that rpm really resolves what it is told.
DISTRIBUTION = """
Name: distribution
Version: 1
Release: 1
Summary: What the base of an rpm distribution provides
License: MIT
BuildArch: noarch
Provides: /bin/sh coreutils sed systemd
%description
%{summary}.
%files
"""


def build(directory, options):
    """Makes all three for this machine, and gives the directories that they are in."""
    return {version: build_version(version, directory, options, os.environ) for version in VERSIONS}


def build_version(version, directory, options, environment):
    """Makes one of them."""
    key = [] if "FOREBAY_SIGNING_KEY" in environment else ["--unsigned"]
    run("packaging/build", *options, *key, *VERSIONS[version], "--output", directory / version, "x86_64", env=environment)
    return directory / version


class Deb:
    """dpkg, with an operator who is not asked."""

    name = "deb"
    # Where the config of a new version goes, when the operator has one of their own.
    beside = "etc/forebay/forebay.toml.dpkg-dist"

    def __init__(self, made):
        self.files = {version: next(directory.glob("*.deb")) for version, directory in made.items()}

    def prepare(self, system):
        """Makes the root one that has this package manager, and the packages."""
        for version, file in self.files.items():
            system.write(f"/root/{version}.deb", file.read_bytes())

    def install(self, system, version, fails=False):
        """Installs, upgrades or downgrades. A config that both sides changed stays as it is, as apt is told for that."""
        return system("dpkg", "--install", "--force-confdef", "--force-confold", f"/root/{version}.deb", fails=fails)

    def remove(self, system):
        """Removes the package, and nothing that is the operator's."""
        return system("dpkg", "--remove", "forebay")

    def purge(self, system):
        """Removes everything."""
        return system("dpkg", "--purge", "forebay")


class Rpm:
    """rpm, with a database of its own."""

    name = "rpm"
    beside = "etc/forebay/forebay.toml.rpmnew"

    def __init__(self, made):
        self.files = {version: next(directory.glob("*.rpm")) for version, directory in made.items()}

    def prepare(self, system):
        """The same as for dpkg, and the base that our package needs."""
        for version, file in self.files.items():
            system.write(f"/root/{version}.rpm", file.read_bytes())
        with tempfile.TemporaryDirectory() as top:
            spec = pathlib.Path(top, "distribution.spec")
            spec.write_text(DISTRIBUTION)
            run("rpmbuild", "--quiet", "--define", f"_topdir {top}", "-bb", spec)
            system.write("/root/distribution.rpm", next(pathlib.Path(top).glob("RPMS/*/*.rpm")).read_bytes())
        system.write("/etc/rpm/macros", "%_dbpath /var/lib/rpm\n")
        system("rpm", "--install", "/root/distribution.rpm")

    def install(self, system, version, fails=False):
        """Installs, upgrades or downgrades."""
        return system("rpm", "--upgrade", "--oldpackage", "--verbose", f"/root/{version}.rpm", fails=fails)

    def remove(self, system):
        """Removes the package, and nothing that is the operator's."""
        return system("rpm", "--erase", "forebay")

    def purge(self, system):
        """What the README says in place of a purge, which rpm does not have."""
        return system("sh", "-c", "rm -r /etc/forebay /var/lib/forebay && userdel forebay")
