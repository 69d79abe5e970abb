"""Runs one scenario against the account that SNOWFLAKE describes: `judge.py NAME [ARGUMENT...]`. Fails by an exception."""

import faulthandler
import sys

import beside
import failing
import strangers

import statements
import streaming

# The SDK tries for hours where a test has long failed.
faulthandler.dump_traceback_later(300, exit=True)

for room in (streaming, failing, strangers, statements, beside):
    if scenario := getattr(room, sys.argv[1], None):
        scenario(*sys.argv[2:])
        break
else:
    sys.exit(f"no scenario {sys.argv[1]}")
