"""The control port: JSON over HTTP, from which tests make things, set what is to go wrong, and ask what came. README.md
has the list."""

import asyncio
import json
import re
from urllib.parse import unquote

from messages import Answer, Refusal
from names import parts
from rows import lines
from sqlerrors import Failed


class Control:
    def __init__(self, service):
        self._service = service
        routes = [
            ("POST", "/sql", self._sql),
            ("PUT", "/users/([^/]+)", self._user),
            ("GET", "/settings", lambda _: service.settings.all()),
            ("PATCH", "/settings", self._set),
            ("GET", "/faults", lambda _: [fault.told for fault in service.faults.all]),
            ("POST", "/faults", lambda request: {"id": service.faults.add(request.json())}),
            ("DELETE", "/faults", lambda _: service.faults.clear()),
            ("POST", "/expire-tokens", lambda _: {"count": service.tokens.expire()}),
            ("GET", "/channels", self._channels),
            ("POST", "/channels/invalidate", self._invalidate),
            ("POST", "/channels/forget", self._forget),
            ("GET", "/tables/([^/]+)/rows", self._rows),
            ("GET", "/tables/([^/]+)/commits", self._commits),
            ("GET", "/requests", lambda _: list(service.requests)),
            ("DELETE", "/requests", lambda _: service.requests.clear()),
        ]
        self._routes = [(method, re.compile(path), act) for method, path, act in routes]

    async def serve(self, request):
        for method, path, act in self._routes:
            found = path.fullmatch(request.path)
            if method == request.method and found:
                try:
                    done = act(request, *map(unquote, found.groups()))
                    done = await done if hasattr(done, "__await__") else done
                except (Refusal, Failed) as failure:
                    return Answer.text(f"{failure}\n", 400)
                return done if isinstance(done, Answer) else Answer.of({} if done is None else done)
        return Answer.text(f"nothing at {request.method} {request.path}\n", 404)

    async def _sql(self, request):
        results = await self._service.statements.run_as_administrator(request.json()["statement"])
        return [{"columns": [one["name"] for one in result.columns], "rows": result.rows} for result in results]

    def _user(self, request, name):
        self._service.accounts.change_user(name, request.json())

    def _set(self, request):
        changed = self._service.settings.change(request.json())
        self._service.commits.look_again()
        return changed

    def _channels(self, _request):
        return [
            {
                **channel.status(),
                "client_sequencer": channel.client_sequencer,
                "row_sequencer": channel.row_sequencer,
                "pending": len(channel.pending),
                "pending_end": channel.pending[-1].end if channel.pending else None,
            }
            for channel in self._all_channels()
        ]

    def _invalidate(self, request):
        told = request.json()
        channels = self._meant(told)
        for channel in channels:
            channel.invalidate(told.get("code", "ERR_CHANNEL_MUST_BE_REOPENED"), told.get("keeps_pending", False))
        return {"count": len(channels)}

    def _forget(self, request):
        channels = self._meant(request.json())
        for channel in channels:
            channel.forget()
        return {"count": len(channels)}

    def _meant(self, told):
        """The channels of the name that is told, all if none is."""
        return [one for one in self._all_channels() if told.get("channel") in (None, one.name)]

    def _all_channels(self):
        return [channel for pipe in self._service.catalog.pipes.values() for channel in pipe.channels.values()]

    def _table(self, name):
        tables = self._service.catalog.tables
        if tuple(parts(name)) not in tables:
            raise Refusal("unknown", f"there is no table {name}; there are {['.'.join(one) for one in tables]}")
        return tables[tuple(parts(name))]

    async def _rows(self, request, name):
        """What was committed from the commit `from` on, row by row, as NDJSON."""
        table, first = self._table(name), int(request.query.get("from", 0))
        body = await asyncio.to_thread(lambda: b"".join(_row_lines(table, first)))
        return Answer(body, kind="application/x-ndjson")

    def _commits(self, request, name):
        """What was committed from the commit `from` on, request by request."""
        table, first = self._table(name), int(request.query.get("from", 0))
        return [
            {
                "channel": append.channel.name,
                "start": append.start,
                "end": append.end,
                "rows": append.rows,
                "refused": {str(number): why for number, why in append.refused.items()},
                "received_ms": append.received_ms,
                "committed_ms": append.committed_ms,
            }
            for append in table.commits[first:]
        ]


def _row_lines(table, first):
    for number, append in enumerate(table.commits[first:], first):
        head = {"commit": number, "channel": append.channel.name, "start": append.start, "end": append.end}
        for row, line in enumerate(lines(append.unpacked())):
            if row not in append.refused:
                told = json.dumps({**head, "row": row})
                yield told[:-1].encode() + b', "values": ' + line.strip() + b"}\n"
