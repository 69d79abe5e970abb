"""Commits: what channels hold becomes rows of tables, some time after it was appended, and in batches."""

import asyncio
import time
from contextlib import suppress

from channels import HEALTHY
from rows import lines


class Commits:
    def __init__(self, settings, faults):
        self._settings, self._faults = settings, faults
        self._wake = asyncio.Event()
        # Channels with something pending, in the order in which they were appended to.
        self._busy = {}

    def expect(self, channel):
        """Something is pending in a channel."""
        self._busy[channel] = None
        self._wake.set()

    def look_again(self):
        """Settings are others."""
        self._wake.set()

    async def run(self):
        while True:
            self._wake.clear()
            due, wait = self._due()
            if due:
                await asyncio.to_thread(_check, due)
                for append in due:
                    await self._commit(append)
                await asyncio.sleep(self._settings.commit_interval_ms / 1000)
                continue
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)

    def _due(self):
        """The appends that may be committed now, and after how many seconds the next one may."""
        now, due, wait = time.monotonic(), [], None
        for channel in list(self._busy):
            if not channel.pending:
                del self._busy[channel]
            elif not self._held(channel):
                ripe = [append for append in channel.pending if append.due <= now]
                due += ripe
                if len(ripe) < len(channel.pending):
                    left = channel.pending[len(ripe)].due - now
                    wait = left if wait is None else min(wait, left)
        return due, wait

    def _held(self, channel):
        return self._settings.hold_commits or channel.name in self._settings.held_channels or channel.code != HEALTHY

    async def _commit(self, append):
        channel = append.channel
        work = {"operation": "commit", "channel": channel.name, "pipe": channel.pipe.name[2]}
        fault = None if append.discarded else self._faults.take("commit", **work)
        if fault and fault["action"] == "slow":
            await fault.happen()
        # Whatever has come since the batch was begun counts: reopened, held back, or one before it was.
        if append.discarded or self._held(channel) or channel.pending[0] is not append:
            return
        match fault and fault["action"]:
            case "invalidate":
                channel.invalidate(fault["code"] or "ERR_CHANNEL_MUST_BE_REOPENED")
                return
            case "forget":
                channel.forget()
                return
            case "reject":
                numbers = range(append.rows) if fault["rows"] is None else fault["rows"]
                why = fault["message"] or "Rejected by a fault of the emulator"
                append.refused |= {number: why for number in numbers if number < append.rows}
        channel.commit(append)
        channel.pipe.table.commits.append(append)


def _check(appends):
    """Counts the rows and finds those that their table refuses. Runs on a thread of its own."""
    for append in appends:
        if not append.rows and not append.discarded:
            rows = lines(append.unpacked())
            append.mapping = append.channel.pipe.mapping
            append.refused = append.mapping.refused(rows)
            append.rows = len(rows)
