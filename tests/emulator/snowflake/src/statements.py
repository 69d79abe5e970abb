"""The SQL API: statements are submitted, asked for, and cancelled."""

import asyncio
import gzip
import json
import time
import uuid

import commands
from messages import Answer, Refusal
from results import Result, text_columns
from script import split
from session import Session
from sqlerrors import Failed

RUNNING = (
    "333334",
    "Asynchronous execution in progress. Use provided query id to perform query monitoring and management.",
)
CANCELLED = ("000604", "57014", "SQL execution canceled")
# How many statements are remembered, the oldest go first.
REMEMBERED = 10000
# The longest that a statement may take where nothing else is asked for: a week, as the service has it.
LONGEST_S = 604800


class Execution:
    """One statement, or several that were sent together."""

    def __init__(self, request_id, nullable):
        self.handle, self.request_id, self.nullable = str(uuid.uuid4()), request_id, nullable
        self.created_ms = int(time.time() * 1000)
        self.task = self.result = self.failure = None
        # The executions of the single statements.
        self.parts = []


class Statements:
    def __init__(self, service):
        self._service, self._settings = service, service.settings
        self._by_handle, self._by_request = {}, {}

    async def submit(self, request):
        identity = self._service.tokens.for_account(request)
        told, request_id = request.json(), request.query.get("requestId") or str(uuid.uuid4())
        text = told.get("statement")
        if not isinstance(text, str):
            raise Refusal("390142", "The body has no statement")
        before = self._by_request.get(request_id)
        # Sent again: not done again if it was done, or is being done.
        if request.query.get("retry") == "true" and before and before.failure is None:
            return await self._answer(before, self._settings.async_after_ms)
        execution = Execution(request_id, request.query.get("nullable", "true") == "true")
        self._remember(execution)
        fault = self._service.faults.take("execute", operation="statement")
        if fault and fault["action"] == "refuse":
            return fault.refusal()
        execution.task = asyncio.ensure_future(self._run(execution, told, identity, fault))
        at_once = request.query.get("async") == "true" or fault and fault["action"] == "detach"
        return await self._answer(execution, 0 if at_once else self._settings.async_after_ms)

    async def poll(self, request, handle):
        self._service.tokens.for_account(request)
        execution = self._known(handle)
        partition = request.query.get("partition", "0")
        if execution.result is None or partition == "0":
            return await self._answer(execution, 0)
        return self._partition(execution, int(partition))

    async def cancel(self, request, handle):
        self._service.tokens.for_account(request)
        execution = self._known(handle)
        if execution.task is None or execution.task.done():
            raise Refusal("000605", "Identified SQL statement is not currently executing.", 422)
        execution.task.cancel()
        await asyncio.wait([execution.task])
        told = {"code": CANCELLED[0], "sqlState": CANCELLED[1], "message": CANCELLED[2]}
        return Answer.of({**told, "statementHandle": handle})

    async def run_as_administrator(self, text):
        """Carries out the control port's statements with every right. Returns their results as the API tells them."""
        session = self._session("ACCOUNTADMIN", "ACCOUNTADMIN")
        session.warehouse = "CONTROL"
        async with self._service.engine.lock:
            return [await self._in_thread(one, {}, session) for one in split(text)]

    # Running.

    async def _run(self, execution, told, identity, fault):
        limit = int(told.get("timeout") or LONGEST_S)
        try:
            await asyncio.wait_for(self._work(execution, told, identity, fault), limit)
        except Failed as failed:
            execution.failure = failed
        except Refusal as refusal:
            execution.failure = Failed(refusal.code, "42000", refusal.message)
        except asyncio.TimeoutError:
            message = f"Statement reached its statement or warehouse timeout of {limit} second(s) and was canceled."
            execution.failure = Failed("000630", "57014", message, 408)
        except asyncio.CancelledError:
            execution.failure = Failed(*CANCELLED)

    async def _work(self, execution, told, identity, fault):
        if fault and fault["action"] == "slow":
            await fault.happen()
        session = self._session(identity.user, identity.role)
        self._enter(session, told)
        statements, bindings = split(told["statement"]), told.get("bindings") or {}
        wanted = int((told.get("parameters") or {}).get("MULTI_STATEMENT_COUNT", 1))
        if wanted not in (0, len(statements)):
            message = f"Actual statement count {len(statements)} did not match the desired statement count {wanted}."
            raise Failed("000008", "0A000", message)
        async with self._service.engine.lock:
            if len(statements) == 1 and wanted == 1:
                if commands.needs_company(statements[0]):
                    raise Failed(
                        "391911", "0A000", f"Unsupported statement type '{statements[0].text.split()[0].upper()}'."
                    )
                execution.result = await self._in_thread(statements[0], bindings, session)
            else:
                await self._all(execution, statements, bindings, session)

    async def _all(self, execution, statements, bindings, session):
        if bindings:
            raise Failed("000002", "0A000", "Unsupported feature 'bindings in multi-statement requests'.")
        try:
            for one in statements:
                part = Execution(None, execution.nullable)
                part.result = await self._in_thread(one, {}, session)
                execution.parts.append(part)
                self._by_handle[part.handle] = part
        finally:
            # What a request has begun ends with it.
            self._service.engine.roll_back()
        execution.result = Result(
            text_columns("multiple statement execution"), [["Multiple statements executed successfully."]]
        )

    async def _in_thread(self, statement, bindings, session):
        work = asyncio.ensure_future(asyncio.to_thread(self._execute, statement, bindings, session))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Not to be left half done: the engine is one thread's at a time.
            await asyncio.wait([work])
            raise

    def _execute(self, statement, bindings, session):
        return commands.execute(statement, bindings, session, self._service.engine)

    def _session(self, user, role):
        service = self._service
        return Session(service.accounts, service.catalog, self._settings.account, user, role)

    def _enter(self, session, told):
        """What the request names: role, warehouse, database and schema, in the case in which they are."""
        user = self._service.accounts.user(session.user)
        for kind in ("ROLE", "WAREHOUSE", "DATABASE"):
            usual = user.properties.get("DEFAULT_WAREHOUSE") if user and kind == "WAREHOUSE" else None
            if name := told.get(kind.lower()) or usual:
                session.use(kind, (name,))
        if name := told.get("schema"):
            session.use("SCHEMA", (session.database, name) if session.database else (name,))

    # Telling.

    async def _answer(self, execution, wait_ms):
        if execution.task and not execution.task.done():
            await asyncio.wait([execution.task], timeout=wait_ms / 1000)
        handle = execution.handle
        url = f"/api/v2/statements/{handle}"
        if execution.failure:
            failed = execution.failure
            told = {"code": failed.code, "message": failed.message, "sqlState": failed.state}
            return Answer.of({**told, "statementHandle": handle, "statementStatusUrl": url}, failed.status)
        if execution.result is None:
            code, message = RUNNING
            return Answer.of(
                {"code": code, "message": message, "statementHandle": handle, "statementStatusUrl": url}, 202
            )
        return Answer.of(self._result_set(execution, url))

    def _result_set(self, execution, url):
        result = execution.result
        size = self._settings.rows_per_partition
        slices = [result.rows[at : at + size] for at in range(0, len(result.rows), size)] or [[]]
        told = {
            "resultSetMetaData": {
                "numRows": len(result.rows),
                "format": "jsonv2",
                "partitionInfo": [
                    {"rowCount": len(rows), "uncompressedSize": len(json.dumps(rows))} for rows in slices
                ],
                "rowType": result.columns,
            },
            "data": _nulls(slices[0], execution.nullable),
            "code": "090001",
            "statementStatusUrl": f"{url}?requestId={execution.request_id}&partition=0",
            "sqlState": "00000",
            "statementHandle": execution.handle,
            "message": "Statement executed successfully.",
            "createdOn": execution.created_ms,
        }
        if result.stats:
            told["stats"] = result.stats
        if execution.parts:
            told["statementHandles"] = [part.handle for part in execution.parts]
        return told

    def _partition(self, execution, number):
        size = self._settings.rows_per_partition
        rows = execution.result.rows[number * size : (number + 1) * size]
        if not rows:
            raise Refusal("391904", f"There is no partition {number}", 400)
        answer = Answer.of({"data": _nulls(rows, execution.nullable)})
        # All but the first come compressed, whatever the client accepts.
        answer.body, answer.headers = gzip.compress(answer.body), {"content-encoding": "gzip"}
        return answer

    def _remember(self, execution):
        self._by_handle[execution.handle] = self._by_request[execution.request_id] = execution
        for held in (self._by_handle, self._by_request):
            while len(held) > REMEMBERED:
                del held[next(iter(held))]

    def _known(self, handle):
        if handle not in self._by_handle:
            raise Refusal("391905", f"Statement handle {handle} is not known", 404)
        return self._by_handle[handle]


def _nulls(rows, nullable):
    return rows if nullable else [["null" if value is None else value for value in row] for row in rows]
