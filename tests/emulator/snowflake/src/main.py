"""A Snowflake account for tests. Listens on free ports of 127.0.0.1, and writes which into the file of `--ready`."""

import argparse
import json
import os

import uvloop

from control import Control
from listener import listen, tls
from service import Service


async def run(arguments):
    service = Service()
    ports = {"http": await listen(service.serve), "control": await listen(Control(service).serve)}
    if arguments.certificate:
        ports["https"] = await listen(service.serve, tls(arguments.certificate, arguments.key))
    # Whoever waits for the file finds it whole.
    with open(f"{arguments.ready}.part", "w", encoding="utf-8") as file:
        json.dump(ports, file)
    os.replace(f"{arguments.ready}.part", arguments.ready)
    print(f"listening on {ports}", flush=True)
    await service.commits.run()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--ready", required=True)
parser.add_argument("--certificate")
parser.add_argument("--key")
uvloop.run(run(parser.parse_args()))
