"""HTTP/1.1 over TCP and TLS, as the vendor's hosts speak it, and with ways to speak it badly.

`serve` is asked for each request and gives an `Answer`, or a `Cut`: what to break instead of answering.
"""

import asyncio
import socket
import ssl
import struct
import traceback
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl

import httptools

from messages import Answer, Request

# A body that is longer ends the connection: the limits that are told as 413 are far below.
LONGEST_BODY = 64 << 20


@dataclass
class Cut:
    """Ends the connection: with a reset or a proper end, after the first half of `answer` if there is one."""

    answer: Answer | None = None
    reset: bool = True


class Connection(asyncio.Protocol):
    def __init__(self, serve, secure):
        self._serve, self._secure = serve, secure
        self._waiting = deque()
        self._task = None

    def connection_made(self, transport):
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, _error):
        self._waiting.clear()

    # What the parser calls.

    def on_message_begin(self):
        self._url, self._headers, self._body, self._length = b"", {}, [], 0

    def on_url(self, part):
        self._url += part

    def on_header(self, name, value):
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self):
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part):
        self._length += len(part)
        if self._length > LONGEST_BODY:
            self._transport.abort()
        else:
            self._body.append(part)

    def on_message_complete(self):
        url = httptools.parse_url(self._url)
        query = dict(parse_qsl((url.query or b"").decode(), keep_blank_values=True))
        method = self._parser.get_method().decode()
        request = Request(method, url.path.decode(), query, self._headers, b"".join(self._body), self._secure)
        self._waiting.append((request, self._parser.should_keep_alive()))
        self._body = []
        if self._task is None:
            self._task = asyncio.ensure_future(self._answer_all())

    async def _answer_all(self):
        while self._waiting and not self._transport.is_closing():
            request, keep = self._waiting.popleft()
            try:
                outcome = await self._serve(request)
            except Exception:
                # A fault of the emulator itself: the log says where, and nobody waits in vain.
                traceback.print_exc()
                outcome = Answer.text("The emulator has failed: see its log\n", 500)
            if self._transport.is_closing():
                # Whoever asked has gone.
                break
            if isinstance(outcome, Cut):
                self._break(outcome)
            else:
                self._write(outcome)
                if not keep:
                    self._transport.close()
        self._task = None

    def _write(self, answer):
        self._transport.write(_head(answer) + answer.body)

    def _break(self, cut):
        if cut.answer is not None:
            whole = _head(cut.answer) + cut.answer.body
            # In the middle of the body where there is one.
            self._transport.write(whole[: len(whole) - max(1, (len(cut.answer.body) + 1) // 2)])
            self._transport.close()
        elif cut.reset:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        else:
            self._transport.close()


def _head(answer):
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", f"content-type: {answer.kind}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return ("\r\n".join([*lines, f"content-length: {len(answer.body)}"]) + "\r\n\r\n").encode()


async def listen(serve, context=None):
    """Listens on a free port of 127.0.0.1, and returns which."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(serve, context is not None), "127.0.0.1", 0, ssl=context)
    return server.sockets[0].getsockname()[1]


def tls(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
