"""Runs one scenario against the namespace that EVENT_HUBS describes: `judge.py NAME`. Fails by an exception."""

import sys

import failing
import guarding
import receiving
import sending

for room in (sending, receiving, guarding, failing):
    if scenario := getattr(room, sys.argv[1], None):
        scenario(*sys.argv[2:])
        break
else:
    sys.exit(f"no scenario {sys.argv[1]}")
