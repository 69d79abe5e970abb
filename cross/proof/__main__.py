"""What a binary has to prove: python3 cross/proof TARGET BINARY [EMULATOR]. Run by cross/test in a network of its own."""

import fcntl
import os
import socket
import struct
import sys
import tempfile
import time

import elf
import empty_root
import job
from agent import Failed, end_all


def raise_loopback():
    """Sets the interface up, which is down in a new network namespace (netdevice(7))."""
    SIOCSIFFLAGS, IFF_UP = 0x8914, 1
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def main(target, binary, emulator=None):
    raise_loopback()
    with tempfile.TemporaryDirectory(prefix="forebay-cross-") as directory:
        command = [emulator, binary] if emulator else [binary]
        kinds = [
            lambda: elf.run(target, binary, command),
            lambda: job.run(command, directory),
            lambda: empty_root.run(emulator, binary, directory),
        ]
        try:
            for kind in kinds:
                began = time.monotonic()
                print(f"{target}: {kind()} ({time.monotonic() - began:.0f} s)", flush=True)
        except Failed as failure:
            print(f"{target}: {failure}", file=sys.stderr)
            return 1
        finally:
            end_all()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.path.abspath(sys.argv[2]), *sys.argv[3:]))
