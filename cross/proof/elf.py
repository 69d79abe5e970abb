"""What the file itself must be: static, position-independent, and with memory protected as far as a linker can."""

import subprocess

from agent import Failed


def run(binary):
    def readelf(*options):
        return subprocess.run(["readelf", "--wide", *options, binary], check=True, stdout=subprocess.PIPE, text=True).stdout

    header, segments, dynamic = readelf("--file-header"), readelf("--segments"), readelf("--dynamic")
    stack = next((line for line in segments.splitlines() if "GNU_STACK" in line), "")
    wrong = [
        what
        for what, is_wrong in [
            ("it is not position-independent (type DYN)", "DYN" not in header),
            ("it asks for a loader (INTERP)", "INTERP" in segments),
            ("it needs shared libraries", "(NEEDED)" in dynamic),
            ("its code has to be changed to be loaded (TEXTREL)", "TEXTREL" in dynamic),
            ("its relocations stay writable (no RELRO and BIND_NOW)", "GNU_RELRO" not in segments or "NOW" not in dynamic),
            ("its stack can be executed", " RW " not in stack),
            ("a segment can be written and executed", "RWE" in segments),
            ("it is not stripped", ".symtab" in readelf("--sections")),
        ]
        if is_wrong
    ]
    if wrong:
        raise Failed("; ".join(wrong))
    return "static, position-independent, stripped; read-only relocations, no executable stack"
