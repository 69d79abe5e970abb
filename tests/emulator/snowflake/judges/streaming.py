"""Streaming while all is well."""

from account import (
    PASSPHRASE,
    PIPE,
    asked,
    client,
    closing,
    committed,
    control,
    ids,
    is_over,
    pem,
    request,
    scoped,
    send,
    set_up,
    sql,
    token,
    wait_until,
)
from snowflake.ingest.streaming import StreamingIngestError

LANE = f"{PIPE}/channels/lane"


def life():
    """Open, append, wait for the commit, close, go on where it ended, and drop."""
    set_up()
    with client() as streams:
        channel, status = streams.open_channel("lane")
        assert (status.status_code, status.latest_committed_offset_token) == ("SUCCESS", None)
        send(channel, range(1, 4))
        send(channel, range(4, 6), body="text", MORE={"a": [1.5]}, AT="2026-11-29T10:00:00.25Z", unknown=1)
        committed(channel, 5)
        channel.close()
        channel, status = streams.open_channel("lane")
        assert status.latest_committed_offset_token == "5", status
        assert (status.rows_inserted_count, status.rows_error_count) == (5, 0), status
        send(channel, range(6, 8))
        committed(channel, 7)
        assert streams.get_latest_committed_offset_tokens(["lane", "nobody"])["lane"] == "7"
        channel.close(drop=True)
    assert ids() == [1, 2, 3, 4, 5, 6, 7]
    assert not control("GET", "/channels")
    # Statements find the same rows.
    found = sql("SELECT ID, BODY, AT, MORE:a[0]::FLOAT FROM PLANT.PUBLIC.EVENTS WHERE ID IN (3, 4) ORDER BY ID")
    assert found == [["3", None, None, None], ["4", "text", "1795946400.250000000", "1.5"]], found


def delay():
    """What was appended is not committed before its time, and is gone if the channel is opened again until then."""
    set_up()
    with client() as streams:
        channel, _ = streams.open_channel("lane")
        send(channel, [1])
        committed(channel, 1)
        control("PATCH", "/settings", {"hold_commits": True})
        send(channel, [2, 3])
        channel.wait_for_flush(30)
        assert channel.get_latest_committed_offset_token() == "1" and ids() == [1]
        channel.close()
        for fails, code in ((True, 409), (False, 200)):
            answer = request("PUT", LANE, {"fail_on_uncommitted_rows": fails}, bearer=scoped(), kind="OAUTH")
            assert answer[0] == code, answer
        channel, status = streams.open_channel("lane")
        assert status.latest_committed_offset_token == "1", status
        control("PATCH", "/settings", {"hold_commits": False})
        send(channel, [2, 3])
        committed(channel, 3)
    assert ids() == [1, 2, 3]


def errors():
    """Rows that are refused are counted, by kind of column; the others are committed, and the count survives."""
    set_up()
    bad = [
        {"ID": 100000},
        {"ID": "many"},
        {"ID": None},
        {"BODY": "no number"},
        {"ID": 2, "BODY": "far too long"},
        {"ID": 2, "AT": "at noon"},
        {"ID": 2, "OK": "perhaps"},
    ]
    good = [{"ID": 1}, {"id": "12", "body": "any case"}, {"ID": 13, "BODY": 5, "OK": "yes", "AT": "1795946400"}]
    with client() as streams:
        channel, _ = streams.open_channel("lane")
        channel.append_rows([good[0], *bad, *good[1:]], "1", "10")
        committed(channel, 10)
        channel.close()
        channel, status = streams.open_channel("lane")
        assert (status.rows_parsed_count, status.rows_inserted_count, status.rows_error_count) == (10, 3, 7), status
        assert status.last_error_offset_token_upper_bound == "10" and "perhaps" in status.last_error_message, status
    (commit,) = control("GET", "/tables/PLANT.PUBLIC.EVENTS/commits")
    assert list(commit["refused"]) == [str(number) for number in range(1, 8)], commit
    assert sql("SELECT ID, BODY, OK, AT FROM PLANT.PUBLIC.EVENTS ORDER BY ID") == [
        ["1", None, None, None],
        ["12", "any case", None, None],
        ["13", "5", "true", "1795946400.000000000"],
    ]


def two_writers():
    """Who opens a channel takes it away from who had it."""
    set_up()
    with closing(client("first")) as first, client("second") as second:
        loser, _ = first.open_channel("lane")
        send(loser, [1])
        committed(loser, 1)
        winner, status = second.open_channel("lane")
        assert status.latest_committed_offset_token == "1", status
        send(loser, [2])
        wait_until("the append to be refused", lambda: any(one["status"] == 400 for one in asked("append")))
        refused = next(one for one in asked("append") if one["status"] == 400)
        assert "STALE_CONTINUATION_TOKEN_SEQUENCER" in refused["answer"]
        send(winner, [3])
        committed(winner, 3)
        is_over(loser)
    assert ids() == [1, 3]


def elastic():
    """A channel that is always open, and has no tokens."""
    set_up()
    with client() as streams:
        channel = streams.get_elastic_channel()
        channel.append_rows_with_wait([{"ID": 1}, {"ID": 2}], "any").result(30)
        wait_until("the commit", lambda: ids() == [1, 2])


def custom_pipe():
    """A pipe that takes its columns from other keys, for which the role needs OPERATE."""
    set_up()
    sql(
        'USE SCHEMA PLANT.PUBLIC; CREATE PIPE P AS COPY INTO EVENTS (ID, "BODY") FROM'
        ' (SELECT $1:number::NUMBER, $1:"some ""words""" FROM TABLE(DATA_SOURCE(TYPE => \'STREAMING\')))'
    )
    try:
        client(pipe="P")
        raise AssertionError("a pipe without OPERATE was let in")
    except StreamingIngestError as error:
        assert "HTTP 404" in str(error), error
    sql("GRANT OPERATE ON PIPE PLANT.PUBLIC.P TO ROLE LOADER")
    with client(pipe="P") as streams:
        channel, _ = streams.open_channel("lane")
        channel.append_rows([{"number": 1, 'some "words"': "a"}, {"NUMBER": 2, 'some "words"': "b"}], "1", "2")
        committed(channel, 2)
        assert channel.get_channel_status().rows_error_count == 1
    assert sql("SELECT ID, BODY FROM PLANT.PUBLIC.EVENTS") == [["1", "a"]]


def encrypted_key():
    set_up()
    with client(private_key=pem(PASSPHRASE), private_key_passphrase=PASSPHRASE) as streams:
        _one_row(streams)


def access_token():
    """A programmatic access token."""
    set_up(pats=["a-programmatic-access-token"])
    with client(authorization_type="PAT", personal_access_token="a-programmatic-access-token") as streams:
        _one_row(streams)


def oauth():
    """Client credentials, which are changed for a token at the account's own endpoint."""
    set_up(oauth_clients={"some-client": "some-secret"})
    told = {"oauth_client_id": "some-client", "oauth_client_secret": "some-secret"}
    with client(authorization_type="OAuth", **told) as streams:
        _one_row(streams)


def split_hosts():
    """The ingest host is another one, and its tokens are for it only."""
    set_up()
    control("PATCH", "/settings", {"ingest_host": "localhost"})
    with client() as streams:
        _one_row(streams)
    assert {one["host"] for one in asked("append")} == {"localhost"}
    assert {one["host"] for one in asked("hostname")} == {"127.0.0.1"}
    path = f"{PIPE}:bulk-channel-status"
    # `request` asks 127.0.0.1.
    assert request("POST", path, {"channel_names": []}, bearer=scoped("localhost"), kind="OAUTH")[0] == 401
    assert request("POST", path, {"channel_names": []}, bearer=token())[0] == 200


def _one_row(streams):
    channel, _ = streams.open_channel("lane")
    send(channel, [1])
    committed(channel, 1)
    assert ids() == [1]
