"""A forebay process under test, and what a producer needs to talk to it."""

import http.client
import os
import signal
import subprocess
import threading
import time

# Emulated, on a busy machine, with every disk access as slow as it gets.
PATIENCE_SECONDS = 180
HTTP_PORT = 8080


class Failed(Exception):
    """What was promised did not come true."""


def wait_until(what, condition, agent=None):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        result = condition()
        if result:
            return result
        ended = agent is not None and agent.process.poll() is not None
        if ended or time.monotonic() > deadline:
            why = f"the agent ended with {agent.process.returncode}" if ended else f"{PATIENCE_SECONDS} s are over"
            said = "" if agent is None else "; it said:\n" + agent.said()
            raise Failed(f"waited for {what}, but {why}{said}")
        time.sleep(0.02)


def end_all():
    """Ends what a test that failed has left running."""
    for agent in Agent.started:
        if agent.process.poll() is None:
            agent.kill()


class Agent:
    """`forebay COMMAND`, started by `command` (the emulator, if any, and the binary), inside `root` if one is given."""

    started = []

    def __init__(self, command, arguments, root=None, environment=None):
        def enter():
            os.chroot(root)
            os.chdir("/")

        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**emulated_cpu(), **(environment or {})},
            preexec_fn=enter if root else None,
        )
        Agent.started.append(self)
        self._lines = []
        self._reader = threading.Thread(target=lambda: self._lines.extend(self.process.stdout), daemon=True)
        self._reader.start()

    def said(self):
        return "".join(self._lines)

    def wait_to_say(self, text):
        wait_until(f"'{text}'", lambda: text in self.said(), self)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """Waits for it to end, with exit code 0 and without a panic."""
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("the agent does not stop; it said:\n" + self.said())
        self._reader.join()
        if code != 0 or "panicked" in self.said():
            raise Failed(f"the agent ended with {code}; it said:\n" + self.said())
        return self.said()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.end()


def emulated_cpu():
    return {name: value for name, value in os.environ.items() if name == "QEMU_CPU"}


def post(connection, lines):
    """Sends NDJSON. True: acknowledged. False: refused, or never sent. None: sent, and no answer came."""
    try:
        connection.connect()
    except OSError:
        return False
    try:
        connection.request("POST", "/events", "\n".join(lines), {"Content-Type": "application/x-ndjson"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if answer.status not in (202, 429, 503):
        raise Failed(f"a good request was answered with {answer.status}")
    return answer.status == 202


def connection():
    return http.client.HTTPConnection("127.0.0.1", HTTP_PORT, timeout=PATIENCE_SECONDS)
