"""Faults that are waiting for their moment.

A fault names a phase of the service's work and what happens there instead: `skip` times not, then `times` times; or
each time by chance. It may be for one operation, one channel or one pipe only.
"""

import asyncio
import random

from listener import Cut
from messages import CODES, Answer, Refusal

BREAKING = ["refuse", "drop", "finish", "slow"]

# The phases, and what can happen in each.
PHASES = {
    # A request has come, and nothing is done.
    "request": BREAKING,
    # It is done, and not answered.
    "answer": [*BREAKING, "cut"],
    # A statement is about to be executed.
    "execute": ["refuse", "slow", "detach"],
    # Rows of one request are about to be committed.
    "commit": ["reject", "invalidate", "forget", "slow"],
}

# Keys of a fault, and what they are where they are not given.
KEYS = {
    "phase": None,
    "action": None,
    # Whom it may strike.
    "operation": None,
    "channel": None,
    "pipe": None,
    "skip": 0,
    "times": None,
    "probability": None,
    "seed": 0,
    # What is told by `refuse`, `reject` and `invalidate`.
    "code": None,
    "status": None,
    "message": None,
    "body": None,
    "retry_after": None,
    # For `slow`.
    "delay_ms": 100,
    # For `reject`: which rows of the request, all if none are named.
    "rows": None,
}


class Faults:
    def __init__(self):
        self.all = []
        self._count = 0

    def add(self, given):
        """Adds one, and returns its number. Refuses what cannot be meant."""
        if unknown := set(given) - set(KEYS):
            raise Refusal("unknown", f"a fault has no {', '.join(sorted(unknown))}; it has {', '.join(KEYS)}")
        fault = {**KEYS, **given}
        phase, action = fault["phase"], fault["action"]
        if action not in PHASES.get(phase, []):
            raise Refusal("unknown", f"at {phase} there may be {PHASES.get(phase, 'nothing')}, not {action}")
        if fault["times"] is None and fault["probability"] is None:
            fault["times"] = 1
        self._count += 1
        chance = random.Random(fault["seed"])
        self.all.append(Fault({"id": self._count, **fault, "happened": 0}, chance))
        return self._count

    def clear(self):
        self.all = []

    def take(self, phase, **work):
        """The fault that happens now to `work` (its operation, channel and pipe), if there is one."""
        return next((fault for fault in self.all if fault.strikes(phase, work)), None)


class Fault:
    def __init__(self, told, chance):
        self.told, self._chance, self._skip = told, chance, told["skip"]

    def __getitem__(self, key):
        return self.told[key]

    def strikes(self, phase, work):
        told = self.told
        if told["phase"] != phase or told["happened"] == told["times"]:
            return False
        if any(told[key] not in (None, work.get(key)) for key in ("operation", "channel", "pipe")):
            return False
        if told["probability"] is not None and self._chance.random() >= told["probability"]:
            return False
        if self._skip:
            self._skip -= 1
            return False
        told["happened"] += 1
        return True

    def refusal(self):
        """The answer of a `refuse`: by its code, or by status and body as they are given."""
        headers = {} if self["retry_after"] is None else {"retry-after": str(self["retry_after"])}
        code = self["code"] or "ERR_GENERAL_EXCEPTION_RETRY_REQUEST"
        if self["body"] is None:
            return Refusal(code, self["message"], self["status"], headers).answer()
        status = self["status"] or CODES.get(code, (503,))[0]
        return Answer(self["body"].encode(), status, "application/json", headers)

    async def happen(self, answer=None):
        """Lets it happen to a request. Returns what comes instead of an answer; nothing if the work goes on."""
        match self["action"]:
            case "refuse":
                return self.refusal()
            case "drop":
                return Cut()
            case "finish":
                return Cut(reset=False)
            case "cut":
                return Cut(answer)
            case "slow":
                await asyncio.sleep(self["delay_ms"] / 1000)
        return None
