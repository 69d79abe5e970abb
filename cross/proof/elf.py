"""What the file itself must be: for its target, static, position-independent, and with memory protected as far as a linker
can."""

import subprocess

from agent import Agent, Failed

MACHINES = {
    "x86_64": "X86-64",
    "aarch64": "AArch64",
    "armv7": "ARM",
    "arm": "ARM",
    "riscv64": "RISC-V",
    "i686": "Intel 80386",
}


def run(target, binary, command):
    def readelf(*options):
        return subprocess.run(["readelf", "--wide", *options, binary], check=True, stdout=subprocess.PIPE, text=True).stdout

    header, segments, dynamic = readelf("--file-header"), readelf("--segments"), readelf("--dynamic")
    machine = next(line.split(":")[1].strip() for line in header.splitlines() if "Machine:" in line)
    says = Agent(command, ["--version"]).end()
    triple = f"target {'riscv64gc' if target == 'riscv64' else target}-unknown-linux-musl"
    stack = next((line for line in segments.splitlines() if "GNU_STACK" in line), "")
    wrong = [
        what
        for what, is_wrong in [
            (f"it is for {machine}", not machine.endswith(MACHINES[target])),
            (f"it says of itself:\n{says}", triple not in says),
            ("it is for v7 or later", target == "arm" and "Tag_CPU_arch: v6" not in readelf("--arch-specific")),
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
