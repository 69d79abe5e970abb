"""What can be said of the packages without installing them."""
import gzip
import json
import os
import pathlib
import tempfile

from .root import expect, run

# Where the two families keep the same thing, and what only one of them has.
SAME = [("/usr/share/zsh/vendor-completions/", "/usr/share/zsh/site-functions/"), ("changelog.Debian.gz", "changelog.gz")]
ONLY = {"/usr/share/lintian/overrides/forebay", "/usr/share/licenses/forebay/LICENSE-APACHE"}
# Of ten; lower is better.
EXPOSURE = 1.5


def the_debian_package_is_clean(proof):
    """lintian has nothing to say at its strictest, but for what the overrides explain."""
    # In tables and code are bytes that look like misspelt words, others in each build.
    chance = ["--suppress-tags", "spelling-error-in-binary"]
    said = run("lintian", "--pedantic", "--display-info", "--allow-root", *chance, *proof.made["now"].glob("*.deb"))
    expect(not said.strip(), said)


def the_rpm_package_is_clean(proof):
    """rpmlint has nothing to say, but for what its config explains."""
    said = run("rpmlint", "--config", "packaging/rpmlint.toml", *proof.made["now"].glob("*.rpm"))
    expect("0 errors, 0 warnings" in said, said)


def the_unit_is_clean_and_hardened(proof):
    """systemd reads every line of the unit, and rates its exposure well."""
    with tempfile.TemporaryDirectory() as directory:
        unit = pathlib.Path(directory, "forebay.service")
        unit.write_text(pathlib.Path("packaging/forebay.service").read_text().replace("/usr/bin/forebay", "/bin/true"))
        said = run("systemd-analyze", "verify", "--man=no", unit)
        expect(not said.strip(), said)
    rated = run("systemd-analyze", "security", "--no-pager", "--offline=true", "packaging/forebay.service").splitlines()[-1]
    exposure = float(rated.split(": ")[1].split()[0])
    expect(exposure <= EXPOSURE, f"{rated}\nIt should be {EXPOSURE} or less.")


def the_manual_pages_are_clean(proof):
    """mandoc has nothing to say of the pages that are in the package."""
    with tempfile.TemporaryDirectory() as directory:
        run("dpkg-deb", "--extract", *proof.made["now"].glob("*.deb"), directory)
        pages = sorted(pathlib.Path(directory).glob("usr/share/man/*/*"))
        expect([page.name for page in pages] == ["forebay.1.gz", "forebay.toml.5.gz"], f"the pages are {pages}")
        for page in pages:
            plain = page.with_suffix("")
            plain.write_bytes(gzip.decompress(page.read_bytes()))
            run("mandoc", "-T", "lint", "-W", "warning", plain)


def both_packages_have_the_same_files(proof):
    """The same files at the same places, or where each family looks for them."""
    deb = run("dpkg-deb", "--contents", *proof.made["now"].glob("*.deb")).splitlines()
    deb = {line.split(" ./")[1] for line in deb if not line.endswith("/")}
    deb = {"/" + path for path in deb}
    for here, there in SAME:
        deb = {path.replace(here, there) for path in deb}
    rpm = set(run("rpm", "--query", "--package", "--list", *proof.made["now"].glob("*.rpm")).split())
    expect(deb - ONLY == rpm - ONLY, f"only in the deb: {deb - rpm}\nonly in the rpm: {rpm - deb}")


def the_same_commit_gives_the_same_bytes_and_a_signature_that_holds(proof):
    """A second build makes the same packages; the signature over their checksums fails when one digit is another."""
    files = proof.made["now"]
    sums = files / "SHA256SUMS"
    first = sums.read_text()
    with tempfile.TemporaryDirectory() as home:
        here = os.environ | {"GNUPGHOME": home}
        run("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key",
            "Forebay proof <proof@forebay.invalid>", "ed25519", "sign", "never", env=here)
        proof.build("now", FOREBAY_SIGNING_KEY="proof@forebay.invalid", GNUPGHOME=home)
        expect(sums.read_text() == first, f"{first}\n{sums.read_text()}")
        run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=files)
        verify = ["gpg", "--batch", "--verify", files / "SHA256SUMS.asc"]
        run(*verify, sums, env=here)
        forged = pathlib.Path(home, "forged")
        forged.write_text(("1" if first[0] == "0" else "0") + first[1:])
        run(*verify, forged, env=here, fails=True)
        run("gpgconf", "--kill", "all", env=here)


def without_a_key_nothing_is_made_unless_it_is_said(proof):
    """Unsigned packages are not made by forgetting something."""
    without = {name: value for name, value in os.environ.items() if name != "FOREBAY_SIGNING_KEY"}
    said = run("packaging/build", "--no-build", "x86_64", env=without, fails=True)
    expect("FOREBAY_SIGNING_KEY" in said and "--unsigned" in said, said)


def the_bill_names_what_is_linked_and_nothing_else(proof):
    """Every part with its version, licence and checksum, and no part that only builds."""
    bill = json.loads(next(proof.made["now"].glob("*.cdx.json")).read_text())
    parts = {part["name"]: part for part in bill["components"]}
    expect({"rusqlite", "rustls", "tokio", "zstd-sys", "forebay-buffer"} <= parts.keys(), f"{sorted(parts)}")
    expect(not {"syn", "cc", "proptest", "tempfile", "serde_derive"} & parts.keys(), f"{sorted(parts)}")
    expect("sqlite" in [inner["name"] for inner in parts["libsqlite3-sys"]["components"]], "SQLite itself is missing")
    runtime = [inner["name"] for inner in bill["metadata"]["component"]["components"]]
    expect(runtime == ["rust-standard-library", "musl"], f"the program itself has {runtime}")
    for part in bill["components"]:
        expect(part["licenses"] and part["version"], f"{part}")
        expect("hashes" in part or part["name"] == "forebay-buffer", f"{part['name']} has no checksum")
    known = {part["purl"] for part in [*bill["components"], bill["metadata"]["component"]]}
    used = {name for entry in bill["dependencies"] for name in [entry["ref"], *entry["dependsOn"]]}
    expect(used == known, f"{used ^ known}")
    expect(str(pathlib.Path.cwd()) not in json.dumps(bill), "the bill names a path of this machine")


ALL = [the_debian_package_is_clean, the_rpm_package_is_clean, the_unit_is_clean_and_hardened, the_manual_pages_are_clean,
       both_packages_have_the_same_files, the_same_commit_gives_the_same_bytes_and_a_signature_that_holds,
       without_a_key_nothing_is_made_unless_it_is_said, the_bill_names_what_is_linked_and_nothing_else]
