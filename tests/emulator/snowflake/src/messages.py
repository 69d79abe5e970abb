"""What goes over HTTP: a request, its answer, a refusal, and the codes that refusals have."""

import json
from dataclasses import dataclass, field

# Codes of the streaming API: the status they come with, and what they say. README.md says which are guessed.
STREAMING = {
    "STALE_CONTINUATION_TOKEN_SEQUENCER": (
        400,
        "Channel sequencer in the continuation token is stale. Please reopen the channel",
    ),
    "STALE_PIPE_CACHE": (400, "The pipe was changed or created anew. Please reopen the channel"),
    "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER": (400, "The row sequencer in the continuation token is not the next one"),
    "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER": (409, "The channel has an invalid client sequencer"),
    "ERR_CHANNEL_MUST_BE_REOPENED": (409, "The channel must be reopened"),
    "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP": (409, "The channel must be reopened: rows are missing"),
    "ERR_CHANNEL_HAS_UNCOMMITTED_DATA": (409, "The channel has uncommitted data"),
    "ERR_OPEN_CHANNEL_IN_PROGRESS": (409, "The channel is being opened by another request"),
    "ERR_DATABASE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED": (404, "The database does not exist or is not authorized"),
    "ERR_SCHEMA_DOES_NOT_EXIST_OR_NOT_AUTHORIZED": (404, "The schema does not exist or is not authorized"),
    "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED": (404, "The pipe does not exist or is not authorized"),
    "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED": (404, "The table does not exist or is not authorized"),
    "ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED": (404, "The channel does not exist or is not authorized"),
    "ERR_GET_CHANNEL_STATUS_BATCH_TOO_MANY_CHANNELS": (400, "Too many channels in one request for their status"),
    "ERR_TOO_MANY_CHANNELS": (400, "The pipe has as many channels as it may have"),
    "ERR_INVALID_REQUEST": (400, "The request is malformed"),
    "ERR_REQUEST_TOO_LARGE": (413, "The request is larger than 4 MB"),
    "ERR_TOO_MANY_REQUESTS": (429, "Too many requests to this channel"),
    "ERR_GENERAL_EXCEPTION_RETRY_REQUEST": (503, "The pipe is not available, please retry"),
}

# Codes of both planes that are about who asks.
ACCOUNT = {
    "390142": (400, "Incoming request does not contain a valid payload."),
    "390144": (401, "JWT token is invalid."),
    "390189": (403, "Role specified in the request is not granted to this user, or does not exist."),
    "390303": (401, "Invalid OAuth access token."),
    "390505": (429, "Too many requests. Please retry."),
    "391902": (400, "Unsupported Accept header null is specified."),
    "391903": (400, "The User-Agent header must be specified."),
}

CODES = {**STREAMING, **ACCOUNT}


@dataclass
class Request:
    method: str
    path: str
    query: dict
    headers: dict
    body: bytes
    secure: bool

    @property
    def host(self):
        """The name that the request was sent to, without the port."""
        return self.headers.get("host", "").rsplit(":", 1)[0]

    def json(self):
        """The body as a JSON object; an empty body is an empty object."""
        try:
            body = json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refusal("390142", f"The body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise Refusal("390142", "The body is no JSON object")
        return body


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    kind: str = "application/json"
    headers: dict = field(default_factory=dict)

    @classmethod
    def of(cls, value, status=200):
        return cls(json.dumps(value).encode(), status)

    @classmethod
    def text(cls, text, status=200):
        return cls(text.encode(), status, "text/plain")


class Refusal(Exception):
    """An answer that is not what was asked for."""

    def __init__(self, code, message=None, status=None, headers=None):
        usual_status, usual_message = CODES.get(code, (400, "refused"))
        super().__init__(message or usual_message)
        self.code, self.message = code, message or usual_message
        self.status, self.headers = status or usual_status, headers or {}

    def answer(self):
        # As seen live: the error codes of the streaming API that begin so have another key.
        key = "error_code" if self.code.startswith("ERR_") else "code"
        answer = Answer.of({key: self.code, "message": self.message}, self.status)
        answer.headers.update(self.headers)
        return answer
