"""The operations of the streaming API, on hosts of both planes."""

import asyncio
import base64
import time
from urllib.parse import unquote

from channels import Append, Channel
from messages import Answer, Refusal
from names import segment
from rows import unpack

# Bodies above this are unpacked on another thread.
SMALL = 64 << 10
ELASTIC = "ELASTIC"


class Streaming:
    def __init__(self, service):
        self._service = service
        self._catalog, self._accounts, self._settings = service.catalog, service.accounts, service.settings

    async def hostname(self, request):
        self._service.tokens.for_account(request)
        return Answer.text(self._settings.ingest_host or request.host)

    async def token(self, request):
        return self._service.tokens.exchange(request)

    async def oauth(self, request):
        return self._service.tokens.oauth(request)

    async def telemetry(self, _request):
        return Answer.of({"success": True, "data": "Log Received", "code": None, "message": None})

    async def pipe_info(self, request, *name):
        self._pipe(request, name)
        return Answer.of(_pipe_info())

    async def open(self, request, *path):
        pipe, name = self._pipe(request, path[:3]), unquote(path[3])
        told = request.json()
        channel = pipe.channels.get(name)
        if channel is None:
            if len(pipe.channels) >= self._settings.max_channels:
                raise Refusal("ERR_TOO_MANY_CHANNELS")
            channel = pipe.channels[name] = Channel(pipe, name)
        channel.open(told.get("offset_token"), told.get("fail_on_uncommitted_rows", False))
        return Answer.of({"next_continuation_token": channel.continuation(), "channel_status": channel.status()})

    async def append(self, request, *path):
        pipe, name = self._pipe(request, path[:3]), unquote(path[3])
        if name == ELASTIC:
            return await self._append_elastic(request, pipe)
        channel = self._channel(pipe, name)
        channel.limit(self._settings.max_appends_per_second)
        start = end = request.query.get("offsetToken")
        start, end = request.query.get("startOffsetToken", start), request.query.get("endOffsetToken", end)
        append = await self._taken(request, channel, start, end)
        if self._channel(pipe, name) is not channel:
            raise Refusal("STALE_CONTINUATION_TOKEN_SEQUENCER")
        following = channel.append(request.query.get("continuationToken"), append, self._settings.swallow_when_invalid)
        self._service.commits.expect(channel)
        return Answer.of({"status_code": 0, "message": None, "next_continuation_token": following})

    async def append_to_table(self, request, database, schema, table):
        pipe = self._pipe(request, (database, schema, f'"{segment(table)}-STREAMING"'))
        return await self._append_elastic(request, pipe)

    async def _append_elastic(self, request, pipe):
        if {"continuationToken", "offsetToken", "startOffsetToken", "endOffsetToken"} & set(request.query):
            raise Refusal("ERR_INVALID_REQUEST", "An elastic channel takes no tokens")
        channel = self._elastic(pipe)
        channel.pending.append(await self._taken(request, channel, None, None))
        self._service.commits.expect(channel)
        # The documentation has the message only; the vendor's SDK wants all three.
        return Answer.of({"status_code": 0, "message": "OK", "next_continuation_token": ""})

    def _elastic(self, pipe):
        """The channel of a pipe that is always open. It is none of those that are counted."""
        if pipe.elastic is None:
            pipe.elastic = Channel(pipe, ELASTIC)
        return pipe.elastic

    async def status(self, request, *name):
        pipe = self._pipe(request, name, account_plane=True)
        names = request.json().get("channel_names", [])
        if len(names) > self._settings.max_status_channels:
            raise Refusal("ERR_GET_CHANNEL_STATUS_BATCH_TOO_MANY_CHANNELS")
        found = {one: pipe.channels[one] for one in names if one in pipe.channels}
        if ELASTIC in names:
            found[ELASTIC] = self._elastic(pipe)
        statuses = {one: channel.status() for one, channel in found.items()}
        if not self._settings.counts_errors_in_bulk:
            for status in statuses.values():
                del status["rows_error_count"]
        return Answer.of({"channel_statuses": statuses})

    async def drop(self, request, *path):
        pipe, name = self._pipe(request, path[:3]), unquote(path[3])
        channel = self._channel(pipe, name)
        if channel.pending and request.json().get("fail_on_uncommitted_rows", False):
            raise Refusal("ERR_CHANNEL_HAS_UNCOMMITTED_DATA")
        channel.forget()
        return Answer.of({"last_committed_offset_token": channel.committed})

    async def file_buffer(self, _request, *_path):
        raise Refusal("ERR_INVALID_REQUEST", "The emulator takes no files: keep below 1 MiB in a flush")

    async def _taken(self, request, channel, start, end):
        """The rows of a request, which can be unpacked."""
        if len(request.body) > self._settings.max_request_bytes:
            raise Refusal("ERR_REQUEST_TOO_LARGE")
        encoding = request.headers.get("content-encoding", "")
        if len(request.body) > SMALL and encoding:
            await asyncio.to_thread(unpack, request.body, encoding)
        else:
            unpack(request.body, encoding)
        due = time.monotonic() + self._settings.commit_delay_ms / 1000
        return Append(channel, start, end, request.query.get("requestId"), request.body, encoding, due)

    def _channel(self, pipe, name):
        if name not in pipe.channels:
            raise Refusal("ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED")
        return pipe.channels[name]

    def _pipe(self, request, path, account_plane=False):
        """The pipe that a path names, if whoever asks may use it."""
        identity = self._service.tokens.for_streaming(request, account_plane)
        name = tuple(segment(part) for part in path)
        self._need(identity, "USAGE", "DATABASE", name[:1], name[:1] in self._catalog.databases)
        self._need(identity, "USAGE", "SCHEMA", name[:2], name[:2] in self._catalog.schemas)
        pipe = self._catalog.pipe(name)
        if pipe is None:
            raise Refusal("ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")
        if pipe.custom:
            self._need(identity, "OPERATE", "PIPE", name, True)
        self._need(identity, "INSERT", "TABLE", pipe.table.name, True, "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED")
        return pipe

    def _need(self, identity, privilege, kind, name, exists, code=None):
        if not exists or not self._accounts.may(identity.role, privilege, kind, name):
            raise Refusal(code or f"ERR_{kind}_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")


def _pipe_info():
    """What the vendor's SDK wants to know before it opens channels; files are not taken whatever it says."""
    stage = {
        "location_type": "S3",
        "region": "us-west-2",
        "location": "bucket/prefix/",
        "endpoint": None,
        "storage_account": None,
        "use_s3_regional_url": False,
        "bucket_name": "bucket",
        "path_prefix": "prefix",
        "expiry_time_ms": int((time.time() + 3600) * 1000),
        "creds": {"AWS_KEY_ID": "a", "AWS_SECRET_KEY": "b", "AWS_TOKEN": "c"},
        "parameters": {
            "max_client_lag_seconds": 1,
            "rowset_flush_threshold_kb": 1024,
            "max_buffered_kb_for_rowset_mode": 16384,
            "rowset_threshold_lookback_seconds": 10,
            "rowset_threshold_ewma_weight": 50,
            "target_file_size_compressed_mb": 16,
            "cpu_throttle_high_watermark_percent": 95,
            "cpu_throttle_low_watermark_percent": 85,
            "mem_throttle_high_watermark_percent": 95,
            "mem_throttle_low_watermark_percent": 85,
        },
    }
    return {
        "rowset_stage_location": stage,
        "durable_stage_location": stage,
        "encryption_info": {
            "pipe_key": base64.b64encode(bytes(32)).decode(),
            "pipe_key_id": 1,
            "diversifier": "abc",
        },
        "parameter_overrides": {},
    }
