"""The account: everything that it has, and which request goes where."""

import re
import time
from collections import deque
from urllib.parse import unquote

from accounts import Accounts
from catalog import Catalog
from commits import Commits
from engine import Engine
from faults import Faults
from listener import Cut
from messages import Answer, Refusal
from names import segment
from settings import Settings
from statements import Statements
from streaming import Streaming
from tokens import Tokens

# How many requests are remembered.
REMEMBERED = 20000

_PIPE = "/v2/streaming/databases/{}/schemas/{}/pipes/{}"
_DATA = "/v2/streaming/data/databases/{}/schemas/{}"
# Operation, method and path of all that can be asked.
_PATHS = [
    ("append", "POST", _DATA + "/pipes/{}/channels/{}/rows"),
    ("status", "POST", _PIPE + ":bulk-channel-status"),
    ("open", "PUT", _PIPE + "/channels/{}"),
    ("drop", "DELETE", _PIPE + "/channels/{}"),
    ("pipe_info", "POST", _PIPE + ":pipe-info"),
    ("append_to_table", "POST", _DATA + "/tables/{}/rows"),
    ("file_buffer", "POST", _DATA + "/pipes/{}/channels/{}/filebuffer"),
    ("hostname", "GET", "/v2/streaming/hostname"),
    ("token", "POST", "/oauth/token"),
    ("oauth", "POST", "/oauth/token-request"),
    ("telemetry", "POST", "/telemetry/send/sessionless"),
    ("statement", "POST", "/api/v2/statements"),
    ("poll", "GET", "/api/v2/statements/{}"),
    ("cancel", "POST", "/api/v2/statements/{}/cancel"),
]
# Forms, not JSON.
_NO_ACCEPT = ("oauth", "token", "telemetry")


class Service:
    def __init__(self):
        self.settings, self.faults = Settings(), Faults()
        self.accounts, self.catalog, self.engine = Accounts(), Catalog(), Engine(self.settings)
        self.tokens = Tokens(self.accounts, self.settings)
        self.commits = Commits(self.settings, self.faults)
        self.statements, self._streaming = Statements(self), Streaming(self)
        # What was asked, the last of it.
        self.requests, self._count = deque(maxlen=REMEMBERED), 0
        acts = {"statement": self.statements.submit, "poll": self.statements.poll, "cancel": self.statements.cancel}
        self._routes = [
            (name, method, _compile(path), acts.get(name) or getattr(self._streaming, name))
            for name, method, path in _PATHS
        ]

    async def serve(self, request):
        """The answer to a request, or what is broken instead."""
        self._count += 1
        told = {"number": self._count, "method": request.method, "path": request.path, "query": request.query}
        told |= {"bytes": len(request.body), "secure": request.secure, "host": request.host, "status": None}
        told["agent"] = request.headers.get("user-agent")
        self.requests.append(told)
        found = self._find(request)
        if found is None:
            told["status"] = 404
            return Answer.of({"code": "390404", "message": f"Nothing at {request.method} {request.path}"}, 404)
        operation, act, parts = found
        told["operation"] = operation
        work = _work(operation, parts)
        outcome = await self._done(request, act, parts, work)
        told["status"] = "cut" if isinstance(outcome, Cut) else outcome.status
        told["answered_ms"] = int(time.time() * 1000)
        if not isinstance(outcome, Cut) and outcome.status >= 400:
            told["answer"] = outcome.body.decode()
        return outcome

    async def _done(self, request, act, parts, work):
        if (fault := self.faults.take("request", **work)) and (instead := await fault.happen()):
            return instead
        try:
            _check_headers(request, work["operation"])
            answer = await act(request, *parts)
        except Refusal as refusal:
            answer = refusal.answer()
        if (fault := self.faults.take("answer", **work)) and (instead := await fault.happen(answer)):
            return instead
        return answer

    def _find(self, request):
        for operation, method, pattern, act in self._routes:
            if method == request.method and (found := pattern.fullmatch(request.path)):
                return operation, act, found.groups()
        return None


def _compile(path):
    return re.compile(re.escape(path).replace(r"\{\}", "([^/]+)"))


def _work(operation, parts):
    """What a fault may be about."""
    work = {"operation": operation}
    if operation not in ("poll", "cancel") and len(parts) > 2:
        work["pipe"] = segment(parts[2])
    if len(parts) > 3:
        work["channel"] = unquote(parts[3])
    return work


def _check_headers(request, operation):
    accepted = request.headers.get("accept")
    if operation not in _NO_ACCEPT and (accepted is None or not re.search(r"application/json|\*/\*", accepted)):
        raise Refusal("391902", f"Unsupported Accept header {accepted or 'null'} is specified.")
    if operation == "statement" and "user-agent" not in request.headers:
        raise Refusal("391903")
