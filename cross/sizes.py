"""What takes the room in an ELF file that has its symbols: sizes.py FILE BUDGET_MIB [ARCHIVE...]

Rust functions are counted for the first crate in their name that is not the standard library: what a crate makes of a
generic Vec is its own. C functions are counted for the archive that they come from, the others for libc.
"""

import os
import re
import subprocess
import sys
from collections import Counter

STANDARD_LIBRARY = {"core", "alloc", "std"}


def lines(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def sections(file):
    """Name, address, offset and size of what is loaded from the file."""
    for line in lines("readelf", "--section-headers", "--wide", file):
        found = re.match(r"\s*\[\s*\d+\] (\S+)\s+(\S+)\s+(\w+) (\w+) (\w+) \w+ +(\w*)", line)
        if found and "A" in found[6] and found[2] != "NOBITS":
            yield found[1], *(int(found[field], 16) for field in (3, 4, 5))


def symbols(file):
    """Address, size and demangled name."""
    for line in lines("nm", "--print-size", "--demangle", file):
        found = re.match(r"(\w+) (\w+) \w (.*)", line)
        if found:
            yield int(found[1], 16), int(found[2], 16), found[3]


def archive_of_each_symbol(archives):
    names = {}
    for archive in archives:
        name = re.sub(r"^lib|\.a$|_core_.*", "", os.path.basename(archive))
        for line in lines("nm", "--defined-only", archive):
            if line.count(" ") >= 2:
                names[line.split(" ", 2)[2]] = f"{name} (C)"
    return names


def owner(name, in_archive):
    if name in in_archive:
        return in_archive[name]
    crates = re.findall(r"(?<![\w:])([a-z_]\w*)(?:\[\w+\])?::", name)
    if not crates:
        return "libc"
    return next((crate for crate in crates if crate not in STANDARD_LIBRARY), "std")


def main(file, budget_mib, *archives):
    loaded = list(sections(file))
    unnamed = {name: size for name, _, _, size in loaded}
    by_owner, by_section, seen = Counter(), Counter(unnamed), set()
    in_archive = archive_of_each_symbol(archives)
    for address, size, name in symbols(file):
        section = next((s for s, start, _, length in loaded if start <= address < start + length), None)
        if section and address not in seen:  # a second name for the same place takes no room
            seen.add(address)
            by_owner[owner(name, in_archive)] += size
            unnamed[section] -= size
    for section, size in unnamed.items():
        by_owner[f"{section} without names"] += size

    total = max(offset + size for _, _, offset, size in loaded)
    for what, size in by_owner.most_common():
        if size >= 1024:
            print(f"{size:>10} {100 * size / total:5.1f} %  {what}")
    print("\nby section: " + ", ".join(f"{name} {size}" for name, size in by_section.most_common(8)))
    budget = int(budget_mib) << 20
    print(f"{total} bytes, {100 * total / budget:.1f} % of the {budget_mib} MiB that it may have")
    return 0 if total <= budget else 1


sys.exit(main(*sys.argv[1:]))
