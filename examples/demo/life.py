"""What the demonstration starts and asks: processes that cannot outlive it, free ports, a Consul server's HTTP API.

Standard library only, so that it runs on whatever Python the system has.
"""

from __future__ import annotations

import ctypes
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class DemoFailed(Exception):
    """What went wrong, followed by what to do."""


def scratch_directory(cache: Path) -> Path:
    """A directory that is ours while we live. Those of demonstrations that were killed are removed on the way."""
    (cache / "locks").mkdir(exist_ok=True)
    # Held over all of this, so that nobody takes a directory that is not locked yet for an abandoned one.
    with (cache / "locks" / "demo").open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        for left in cache.glob("demo-*"):
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            except BlockingIOError:
                pass  # its demonstration is running
            finally:
                os.close(held)
        scratch = Path(tempfile.mkdtemp(prefix="demo-", dir=cache))
        # Never closed: the kernel gives the lock back when this process ends, in whatever way. Children do not inherit it.
        fcntl.flock(os.open(scratch, os.O_RDONLY), fcntl.LOCK_EX)
        return scratch


def free_ports(count: int) -> list[int]:
    """Ports free for TCP and UDP on loopback; all are held until the last is found, so that none comes twice."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            tcp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            tcp.bind(("127.0.0.1", 0))
            udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            ports.append(tcp.getsockname()[1])
    return ports


class Process:
    """A process that writes to a log file and dies with us, however we die."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None):
        self.name, self.log = name, log
        prctl = ctypes.CDLL(None).prctl  # looked up before the fork: nothing may be loaded after it

        def die_with_parent() -> None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        with log.open("wb") as output:
            # A session of its own: a Ctrl-C at the terminal is for us to act on, in the right order.
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def require_alive(self) -> None:
        status = self.child.poll()
        if status is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
            shown = "\n".join(f"    {line}" for line in lines)
            raise DemoFailed(f"{self.name} ended with status {status}; the end of its log ({self.log}):\n{shown}")

    def stop(self) -> None:
        """For the end of the demonstration, after whatever happened."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Consul:
    """The few questions we ask a Consul server."""

    def __init__(self, port: int):
        self.port = port

    def get(self, path: str, timeout: float = 10) -> tuple[int, object]:
        """The answer and its index, with which a blocking query asks for the next change."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise DemoFailed(f"the Consul server answers {response.status} to {path}: {body.decode(errors='replace')}")
            return int(response.headers.get("X-Consul-Index", 0)), json.loads(body)
        finally:
            connection.close()

    def wait_for_leader(self, server: Process, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            server.require_alive()
            try:
                if self.get("/v1/status/leader")[1]:
                    return
            except (OSError, DemoFailed):
                pass  # not listening yet, or no leader yet
            time.sleep(0.05)
        raise DemoFailed(f"the Consul server elected no leader within {seconds:.0f} s; see {server.log}")

    def entries(self, service: str, index: int, wait: float) -> tuple[int, list[dict]]:
        """The entries of a service; with an index, as soon as they differ from what that index showed."""
        path = f"/v1/health/service/{service}?index={index}&wait={wait * 1000:.0f}ms"
        # Consul adds up to a sixteenth to the wait.
        found_index, entries = self.get(path, timeout=wait * 1.1 + 10)
        return found_index, entries  # type: ignore[return-value]


def post(port: int, path: str, body: object) -> object:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read().decode()
        if response.status != 200:
            raise DemoFailed(f"the worker answers {response.status} to POST {path}: {answer}")
        return json.loads(answer)
    finally:
        connection.close()
