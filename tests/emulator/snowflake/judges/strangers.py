"""Who is not let in, and what is malformed."""

import time
from functools import partial

from account import PIPE, TABLE, USER, control, ids, request, scoped, set_up, sql, token
from cryptography.hazmat.primitives.asymmetric import rsa

DATA = PIPE.replace("/streaming/", "/streaming/data/")
GRANT = b"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&scope=127.0.0.1"


def exchanged(form, **more):
    """The scoped token of an exchange."""
    status, answer = request("POST", "/oauth/token", form, **more)
    assert status == 200, answer
    return answer


def tokens():
    """A key-pair JWT has to be right in everything."""
    set_up()
    now = time.time()
    for good in (token(), token(unit=1000), token(life=3600), token(scp="session:role:LOADER")):
        assert request("GET", "/v2/streaming/hostname", bearer=good) == (200, "127.0.0.1")
    wrong = {
        "another key": token(key=rsa.generate_private_key(65537, 2048)),
        "another fingerprint": token(iss=f"TESTACCT.{USER}.SHA256:AAAA"),
        "another user": token(iss="TESTACCT.NOBODY.SHA256:AAAA", sub="TESTACCT.NOBODY"),
        "another account": token(sub=f"ELSEWHERE.{USER}"),
        "a life that is too long": token(life=3601),
        "a life that is over": token(iat=int(now) - 100, exp=int(now) - 1),
        "a life to come": token(iat=int(now) + 600, exp=int(now) + 700),
        "no life": token(exp=None),
        "a role that is not granted": token(scp="session:role:ACCOUNTADMIN"),
        "no JWT": "abc",
    }
    for what, bad in wrong.items():
        status, answer = request("GET", "/v2/streaming/hostname", bearer=bad)
        assert status == (403 if "role" in what else 401), (what, status, answer)
    control("PATCH", "/settings", {"clock_ahead_s": 7200})
    assert request("GET", "/v2/streaming/hostname")[0] == 401


def exchanges():
    """All forms of the exchange for a scoped token, and of its use."""
    set_up(pats=["pat"], oauth_clients={"id": "secret"})
    form = b"grant_type=client_credentials&client_id=id&client_secret=secret&scope=session:role:LOADER"
    status, granted = request("POST", "/oauth/token-request", form, {"authorization": None})
    assert status == 200 and granted["expires_in"] == 3600, granted
    exchange = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&scope=127.0.0.1 session:role:LOADER"
    exchange += "&subject_token_type="
    for_pat = (exchange + "programmatic_access_token").replace(" ", "%20").encode()
    for_oauth = (exchange + "urn:ietf:params:oauth:token-type:access_token").replace(" ", "%20").encode()
    oauth = granted["access_token"]
    asserted = GRANT + b"&assertion=" + token().encode()
    good = [
        scoped(),
        exchanged(for_pat, bearer="pat", kind="PROGRAMMATIC_ACCESS_TOKEN"),
        exchanged(for_oauth, bearer=oauth, kind="OAUTH"),
        exchanged(asserted, headers={"authorization": None, "x-snowflake-authorization-token-type": None}),
        exchanged(GRANT.split(b"&")[0]),
    ]
    for one in good:
        assert request("POST", f"{PIPE}:bulk-channel-status", {"channel_names": []}, bearer=one, kind="OAUTH")[0] == 200
    assert request("POST", "/oauth/token", for_pat)[0] == 400
    assert request("POST", "/oauth/token", GRANT.replace(b"127.0.0.1", b"elsewhere"))[0] == 400
    assert request("POST", "/oauth/token-request", form.replace(b"=secret", b"=guess"))[0] == 400
    # A credential is no scoped token.
    for bearer, kind in ((token(), "KEYPAIR_JWT"), (oauth, "OAUTH"), ("pat", "PROGRAMMATIC_ACCESS_TOKEN")):
        assert request("PUT", f"{PIPE}/channels/c", {}, bearer=bearer, kind=kind)[0] == 401, kind
    # One without a scope is for statements too; one with a scope is not.
    for bearer, status in ((good[4], 200), (good[0], 401)):
        assert (
            request("POST", "/api/v2/statements", {"statement": "SELECT 1"}, bearer=bearer, kind="OAUTH")[0] == status
        )


def grants():
    """What is not granted is not there."""
    set_up()
    bearer = scoped()
    ask = partial(request, "PUT", body={}, bearer=bearer, kind="OAUTH")
    assert ask(f"{PIPE}/channels/c")[0] == 200
    for grant, code in (
        ("USAGE ON DATABASE PLANT", "ERR_DATABASE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"),
        ("USAGE ON SCHEMA PLANT.PUBLIC", "ERR_SCHEMA_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"),
        (f"INSERT ON TABLE {TABLE}", "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"),
    ):
        sql(f"REVOKE {grant} FROM ROLE LOADER")
        status, answer = ask(f"{PIPE}/channels/c")
        assert (status, answer["error_code"]) == (404, code), answer
        sql(f"GRANT {grant} TO ROLE LOADER")
    assert ask(f"{PIPE}/channels/c")[0] == 200
    # A hybrid table cannot be streamed into.
    sql("CREATE HYBRID TABLE PLANT.PUBLIC.H (ID NUMBER PRIMARY KEY)")
    sql("GRANT INSERT ON TABLE PLANT.PUBLIC.H TO ROLE LOADER")
    status, answer = ask(f"{PIPE}/channels/c".replace("EVENTS", "H"))
    assert (status, answer["error_code"]) == (404, "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"), answer


def sequencers():
    """The same append again is the same; another with its token, or one too far, is refused."""
    set_up()
    bearer = scoped()
    ask = partial(request, bearer=bearer, kind="OAUTH")

    def append(token, number, id_):
        query = f"startOffsetToken={number}&endOffsetToken={number}&continuationToken={token}&requestId={id_}"
        return ask("POST", f"{DATA}/channels/c/rows?{query}", b'\n{"ID": %d}\n\n' % number)

    _, opened = ask("PUT", f"{PIPE}/channels/c", {"offset_token": "0"})
    assert opened["channel_status"]["last_committed_offset_token"] == "0", opened
    first = opened["next_continuation_token"]
    _, answer = append(first, 1, "a")
    second = answer["next_continuation_token"]
    assert append(first, 1, "a") == append(first, 1, "b") == (200, answer)
    status, refused = append(first, 7, "c")
    assert (status, refused["code"]) == (400, "STALE_CONTINUATION_TOKEN_SEQUENCER"), refused
    assert append(second, 2, "d")[0] == 200
    client, row = second.split("_")
    status, refused = append(f"{client}_{int(row) + 5}", 3, "e")
    assert (status, refused["error_code"]) == (400, "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"), refused
    _, told = ask("POST", f"{PIPE}:bulk-channel-status", {"channel_names": ["c", "nobody"]})
    assert list(told["channel_statuses"]) == ["c"], told
    assert told["channel_statuses"]["c"]["channel_status_code"] == "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER", told
    assert ask("PUT", f"{PIPE}/channels/c", {})[0] == 200
    status, refused = append(second, 3, "f")
    assert refused["code"] == "STALE_CONTINUATION_TOKEN_SEQUENCER", refused
    assert 7 not in ids()


def limits():
    set_up()
    bearer = scoped()
    ask = partial(request, bearer=bearer, kind="OAUTH")
    rows = f"{DATA}/channels/c/rows?continuationToken="
    continuation = ask("PUT", f"{PIPE}/channels/c", {})[1]["next_continuation_token"]
    full = b'{"ID": 1, "x": "' + b"y" * ((4 << 20) - 18) + b'"}'
    assert len(full) == 4 << 20
    assert ask("POST", rows + continuation, full + b"\n")[0] == 413
    status, answer = ask("POST", rows + continuation, full)
    assert status == 200, answer
    for coding in ("zstd", "gzip", "br"):
        status, _ = ask(
            "POST", rows + answer["next_continuation_token"], b"no such thing", headers={"content-encoding": coding}
        )
        assert status == (415 if coding == "br" else 400), coding
    control("PATCH", "/settings", {"max_channels": 1, "max_status_channels": 2, "max_appends_per_second": 2})
    assert ask("PUT", f"{PIPE}/channels/d", {})[1]["error_code"] == "ERR_TOO_MANY_CHANNELS"
    names = {"channel_names": ["a", "b", "c"]}
    told = ask("POST", f"{PIPE}:bulk-channel-status", names)[1]
    assert told["error_code"] == "ERR_GET_CHANNEL_STATUS_BATCH_TOO_MANY_CHANNELS", told
    assert 429 in [ask("POST", rows + continuation, b"")[0] for _ in range(3)]
    assert request("GET", "/v2/streaming/hostname", headers={"accept": "text/html"})[1]["code"] == "391902"
