"""The SQL API, as its documentation has it."""

import uuid

from account import FINGERPRINT, PUBLIC, arm, control, request, set_up, sql

URL = "/api/v2/statements"
HOME = {"database": "PLANT", "schema": "PUBLIC", "warehouse": "WH", "role": "LOADER"}


def ask(statement, query="", **more):
    return request("POST", URL + query, {**HOME, "statement": statement, **more})


def good(statement, *values, **more):
    """A statement that succeeds, with values bound to it; its answer."""
    bindings = {str(place): {"type": kind, "value": value} for place, (kind, value) in enumerate(values, 1)}
    status, answer = ask(statement, **({"bindings": bindings} if values else {}), **more)
    assert status == 200, (statement, answer)
    return answer


def bad(statement, code, state, text, *values, **more):
    bindings = {str(place): {"type": kind, "value": value} for place, (kind, value) in enumerate(values, 1)}
    status, answer = ask(statement, **({"bindings": bindings} if values else {}), **more)
    assert (status, answer["code"], answer["sqlState"]) == (422, code, state), (statement, answer)
    assert text in answer["message"], answer
    return answer


def values():
    """Types of columns and values, bound and read."""
    set_up()
    sql(
        "CREATE TABLE PLANT.PUBLIC.V (N NUMBER(10,2), F FLOAT, T VARCHAR, B BOOLEAN, D DATE, H TIME, Z TIMESTAMP_NTZ,"
        " L TIMESTAMP_LTZ, J VARIANT, X BINARY); GRANT ALL ON TABLE PLANT.PUBLIC.V TO ROLE LOADER"
    )
    bound = [
        ("FIXED", "12"),
        ("REAL", "1.5"),
        ("TEXT", "it's; a ?"),
        ("BOOLEAN", "true"),
        ("DATE", "86400000"),
        ("TIME", "1500000000"),
        ("TIMESTAMP_NTZ", "1795946400250000000"),
        ("TIMESTAMP_LTZ", "1795946400250000000"),
        ("TEXT", '{"b": [1.5, "x"], "a": null}'),
        ("BINARY", "00FF"),
    ]
    inserted = good("INSERT INTO V SELECT ?, ?, ?, ?, ?, ?, ?, ?, PARSE_JSON(?), ? -- ?", *bound)
    assert inserted["data"] == [["1"]] and inserted["stats"]["numRowsInserted"] == 1, inserted
    good("INSERT INTO V (N, T) VALUES (?, :2)", ("FIXED", None), ("TEXT", None))
    found = good("SELECT * FROM V WHERE N = 12")
    moment = "1795946400.250000000"
    pretty = '{\n  "a": null,\n  "b": [\n    1.5,\n    "x"\n  ]\n}'
    assert found["data"] == [
        ["12.00", "1.5", "it's; a ?", "true", "1", "1.500000000", moment, moment, pretty, "00FF"]
    ], found
    kinds = [one["type"] for one in found["resultSetMetaData"]["rowType"]]
    assert kinds == "fixed real text boolean date time timestamp_ntz timestamp_ltz variant binary".split(), kinds
    assert good("SELECT J:b[1]::VARCHAR, J:b[1], J:nothing FROM V WHERE N = 12")["data"] == [["x", '"x"', None]]
    assert ask("SELECT NULL AS X", "?nullable=false")[1]["data"] == [["null"]]
    bad("SELECT ?", "100037", "22018", "many", ("FIXED", "many"))
    bad("SELECT ?, ?", "002049", "42601", "not set", ("FIXED", "1"))


def failures():
    """What a failure tells: code, state, and the place."""
    set_up()
    bad("SELECT\n  NOPE FROM EVENTS", "000904", "42000", "error line 2 at position 2\ninvalid identifier 'NOPE'")
    bad("SELECT * FRM X Y Z", "001003", "42000", "syntax error line 1 at position")
    bad("SELECT * FROM NOWHERE", "002003", "42S02", "Object 'PLANT.PUBLIC.NOWHERE' does not exist")
    bad("INSERT INTO EVENTS (BODY) VALUES ('x')", "100072", "22000", "NULL result")
    bad("INSERT INTO EVENTS (ID, BODY) VALUES (1, 'far too long')", "100078", "22000", "too long")
    bad("INSERT INTO EVENTS (ID) VALUES ('many')", "100038", "22018", "'many'")
    bad("INSERT INTO EVENTS (ID, MORE) SELECT 1, PARSE_JSON('{')", "100069", "22P02", "Error parsing JSON")
    bad("DELETE FROM EVENTS", "003001", "42501", "Insufficient privileges")
    bad("SELECT COUNT(*) FROM EVENTS", "000606", "57P03", "No active warehouse", warehouse=None)
    bad("SELECT COUNT(*) FROM EVENTS", "002043", "02000", "Warehouse 'NONE'", warehouse="NONE")
    bad("USE ROLE LOADER", "391911", "0A000", "USE")
    bad(
        "SELECT 1; SELECT 2", "000008", "0A000", "Actual statement count 2 did not match the desired statement count 1."
    )
    status, answer = request("POST", URL, {"statement": "SELECT 1"}, bearer="none")
    assert (status, answer["code"]) == (401, "390144"), answer
    assert request("POST", URL, b"no JSON")[1]["code"] == "390142"
    arm("request", "refuse", operation="statement", code="390505")
    assert request("POST", URL, {"statement": "SELECT 1"})[0] == 429


def keys():
    """Primary keys bind hybrid tables only, where claims are compared and set."""
    set_up()
    columns = "(A VARCHAR(10), B NUMBER, ETAG VARCHAR(100), PRIMARY KEY (A, B))"
    sql(
        f"USE SCHEMA PLANT.PUBLIC; CREATE HYBRID TABLE H {columns}; CREATE TABLE S {columns};"
        "GRANT ALL ON TABLE H TO ROLE LOADER; GRANT ALL ON TABLE S TO ROLE LOADER"
    )
    row = [("TEXT", "a"), ("FIXED", "1"), ("TEXT", "e1")]
    for table in ("H", "S"):
        good(f"INSERT INTO {table} VALUES (?, ?, ?)", *row)
    good("INSERT INTO S VALUES (?, ?, ?)", *row)
    bad("INSERT INTO H VALUES (?, ?, ?)", "200001", "22000", "Primary key already exists", *row)
    bad("INSERT INTO S (A, ETAG) VALUES (?, ?)", "100072", "22000", "NULL result", row[0], row[2])
    claim = "UPDATE H SET ETAG = ? WHERE A = 'a' AND ETAG = ?"
    for count in (1, 0):
        won = good(claim, ("TEXT", "e2"), ("TEXT", "e1"))
        assert won["stats"]["numRowsUpdated"] == count and won["data"][0][0] == str(count), won
    merge = (
        "MERGE INTO H t USING (SELECT ? AS A, ?::NUMBER AS B, ? AS ETAG UNION ALL SELECT 'n', 2, 'e') s"
        " ON t.A = s.A AND t.B = s.B"
        " WHEN MATCHED AND t.ETAG = 'e2' THEN UPDATE SET ETAG = s.ETAG"
        " WHEN NOT MATCHED THEN INSERT (A, B, ETAG) VALUES (s.A, s.B, s.ETAG)"
    )
    merged = good(merge, row[0], row[1], ("TEXT", "e3"))
    assert merged["data"] == [["1", "1"]], merged
    assert (merged["stats"]["numRowsInserted"], merged["stats"]["numRowsUpdated"]) == (1, 1), merged
    assert good("SELECT A, B, ETAG FROM H ORDER BY A")["data"] == [["a", "1", "e3"], ["n", "2", "e"]]
    shown = good("SHOW TABLES LIKE '_' IN SCHEMA PLANT.PUBLIC")
    names = [one["name"] for one in shown["resultSetMetaData"]["rowType"]]
    found = {row[names.index("name")]: row[names.index("is_hybrid")] for row in shown["data"]}
    assert found == {"H": "Y", "S": "N"}, found
    assert [row[4] for row in good("SHOW PRIMARY KEYS IN TABLE H")["data"]] == ["A", "B"]
    query = "SELECT TABLE_NAME FROM PLANT.INFORMATION_SCHEMA.TABLES WHERE IS_HYBRID = 'YES'"
    assert good(query)["data"] == [["H"]]
    bad("CREATE HYBRID TABLE K (A NUMBER)", "003001", "42501", "schema 'PUBLIC'")


def setting_up():
    """What setup does, in the hands of an administrator, and what a check asks afterwards."""
    control("PUT", "/users/INGEST", {"public_key": PUBLIC, "roles": ["SYSADMIN"], "default_role": "SYSADMIN"})
    script = f"""
        CREATE ROLE IF NOT EXISTS LOADER; CREATE WAREHOUSE IF NOT EXISTS WH; CREATE DATABASE IF NOT EXISTS PLANT;
        CREATE SCHEMA IF NOT EXISTS PLANT.RAW; USE SCHEMA PLANT.RAW;
        CREATE TABLE IF NOT EXISTS "Odd name" (A INT DEFAULT 5, B STRING COMMENT 'words') COMMENT = 'x';
        CREATE TABLE IF NOT EXISTS "Odd name" (A INT);
        CREATE USER IF NOT EXISTS OTHER DEFAULT_ROLE = LOADER; GRANT ROLE LOADER TO USER OTHER;
        ALTER USER OTHER SET RSA_PUBLIC_KEY='{PUBLIC}';
        GRANT USAGE ON DATABASE PLANT TO ROLE LOADER; GRANT ALL PRIVILEGES ON TABLE "Odd name" TO ROLE LOADER;
    """
    parameters = {"parameters": {"MULTI_STATEMENT_COUNT": "0"}}
    status, answer = request("POST", URL, {"statement": script, **parameters})
    assert (status, len(answer["statementHandles"])) == (200, 12), answer
    _, part = request("GET", f"{URL}/{answer['statementHandles'][6]}")
    assert part["data"] == [['"Odd name" already exists, statement succeeded.']], part
    _, told = request("POST", URL, {"statement": "DESC USER OTHER"})
    assert {row[0]: row[1] for row in told["data"]}["RSA_PUBLIC_KEY_FP"] == FINGERPRINT, told
    _, told = request("POST", URL, {"statement": 'DESC TABLE PLANT.RAW."Odd name"'})
    assert [row[:5] for row in told["data"]] == [
        ["A", "NUMBER(38,0)", "COLUMN", "Y", "5"],
        ["B", "VARCHAR(16777216)", "COLUMN", "Y", None],
    ], told
    _, told = request("POST", URL, {"statement": "SHOW GRANTS TO ROLE LOADER"})
    assert ["USAGE", "DATABASE", "PLANT"] in [row[1:4] for row in told["data"]], told
    names = "SELECT CURRENT_ROLE(), CURRENT_USER(), CURRENT_WAREHOUSE(), CURRENT_ACCOUNT()"
    _, told = request("POST", URL, {"statement": names, "warehouse": "WH"})
    assert told["data"] == [["SYSADMIN", "INGEST", "WH", "TESTACCT"]], told


def together():
    """Several statements in one session, and none of what a failed one had begun."""
    set_up()
    sql("GRANT ALL ON TABLE PLANT.PUBLIC.EVENTS TO ROLE LOADER")
    three = {"parameters": {"MULTI_STATEMENT_COUNT": "3"}}
    answer = good(
        "ALTER SESSION SET READ_LATEST_WRITES = TRUE; INSERT INTO EVENTS (ID) VALUES (1); SELECT COUNT(*) FROM EVENTS;",
        **three,
    )
    assert answer["data"] == [["Multiple statements executed successfully."]], answer
    _, last = request("GET", f"{URL}/{answer['statementHandles'][2]}")
    assert last["data"] == [["1"]], last
    bad("BEGIN; INSERT INTO EVENTS (ID) VALUES (2); SELECT NOPE", "000904", "42000", "NOPE", **three)
    assert good("SELECT COUNT(*) FROM EVENTS")["data"] == [["1"]]
    good("BEGIN; INSERT INTO EVENTS (ID) VALUES (2); COMMIT", **three)
    assert good("SELECT COUNT(*) FROM EVENTS")["data"] == [["2"]]
    bad("SELECT 1; SELECT 2; SELECT ?", "000002", "0A000", "bindings", ("FIXED", "1"), **three)


def repetition():
    """The same request again is done once, if it says that it is the same."""
    set_up()
    query = f"?requestId={uuid.uuid4()}"
    _, first = ask("INSERT INTO EVENTS (ID) VALUES (1)", query)
    _, again = ask("INSERT INTO EVENTS (ID) VALUES (1)", query + "&retry=true")
    assert first["statementHandle"] == again["statementHandle"] and again["stats"]["numRowsInserted"] == 1, again
    arm("answer", "drop", operation="statement")
    query = f"?requestId={uuid.uuid4()}"
    try:
        ask("INSERT INTO EVENTS (ID) VALUES (2)", query)
        raise AssertionError("an answer came through")
    except OSError:
        pass
    ask("INSERT INTO EVENTS (ID) VALUES (2)", query + "&retry=true")
    assert good("SELECT ID FROM EVENTS ORDER BY ID")["data"] == [["1"], ["2"]]
    # What failed is tried again.
    query = f"?requestId={uuid.uuid4()}"
    ask("INSERT INTO EVENTS (ID) VALUES (NULL)", query)
    assert ask("INSERT INTO EVENTS (ID) VALUES (3)", query + "&retry=true")[0] == 200


def later():
    """Statements that take their time: asked for, cancelled, timed out."""
    set_up()
    status, answer = ask("SELECT 1 AS X", "?async=true")
    while status == 202:
        assert answer["code"] == "333334", answer
        status, answer = request("GET", answer["statementStatusUrl"])
    assert answer["data"] == [["1"]], answer
    arm("execute", "slow", delay_ms=60000)
    control("PATCH", "/settings", {"async_after_ms": 50})
    status, answer = ask("INSERT INTO EVENTS (ID) VALUES (1)")
    assert status == 202, answer
    url = f"{URL}/{answer['statementHandle']}"
    assert request("GET", url)[0] == 202
    assert request("POST", f"{url}/cancel")[1]["code"] == "000604"
    status, answer = request("GET", url)
    assert (status, answer["code"], answer["sqlState"]) == (422, "000604", "57014"), answer
    assert request("POST", f"{url}/cancel")[0] == 422
    control("PATCH", "/settings", {"async_after_ms": 45000})
    arm("execute", "slow", delay_ms=60000)
    status, answer = ask("INSERT INTO EVENTS (ID) VALUES (1)", timeout=1)
    assert (status, answer["code"]) == (408, "000630"), answer
    arm("execute", "detach")
    assert ask("SELECT 1")[0] == 202
    assert request("GET", f"{URL}/{uuid.uuid4()}")[0] == 404
    assert good("SELECT COUNT(*) FROM EVENTS")["data"] == [["0"]]


def partitions():
    """A large result comes in parts, all but the first compressed."""
    set_up()
    sql("INSERT INTO PLANT.PUBLIC.EVENTS (ID) SELECT column1 FROM VALUES " + ", ".join(f"({n})" for n in range(25)))
    control("PATCH", "/settings", {"rows_per_partition": 10})
    answer = good("SELECT ID FROM EVENTS ORDER BY ID")
    about = answer["resultSetMetaData"]
    assert about["numRows"] == 25 and [one["rowCount"] for one in about["partitionInfo"]] == [10, 10, 5], about
    rows = answer["data"]
    for number in (1, 2):
        rows += request("GET", f"{URL}/{answer['statementHandle']}?partition={number}")[1]["data"]
    assert rows == [[str(number)] for number in range(25)], rows
    assert request("GET", f"{URL}/{answer['statementHandle']}?partition=3")[0] == 400
