#!/usr/bin/env python3
"""The life of one instance, told step by step: python3 show.py NAMESPACE-COMMAND...

Start, agent ready, registered, passing, found in catalog and DNS, a real answer, stop, entry gone, exit. Nothing is slept
for: the catalog is watched at the server with blocking queries. `examples/demo/run` prepares the programs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

from life import Consul, DemoFailed, Process, free_ports, post, scratch_directory

SERVICE = {"model": "rampart", "task": "ner", "env": "demo", "version": "v1.4.0"}
NAME = "rampart-ner-demo-v1-4-0"  # a DNS label: the dots of the version become hyphens
SENTENCE = "👋 Zoë Saldaña moved to 12 Lindenstraße, Berlin; call her at +1 (415) 555-0134."

# Loading the model takes a second; a machine busy with something else may need many.
PASSING_WITHIN = 60.0
# The supervisor's own stop-timeout is 9 s.
STOPPED_WITHIN = 15.0

BOLD, DIM, GREEN, PLAIN = ("\033[1m", "\033[2m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("",) * 4


def heading(title: str, what: str) -> None:
    print(f"\n{BOLD}==> {title}{PLAIN}\n{DIM}    {what}{PLAIN}", flush=True)


def show(text: str) -> None:
    print(textwrap.indent(text.rstrip(), "    "), flush=True)


def main() -> int:
    cache = Path(os.environ["PILOTLIGHT_CACHE"])
    (cache / "log").mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda *_: sys.exit(143))
    scratch = scratch_directory(cache)
    started: list[Process] = []
    try:
        Demo(scratch, cache / "log", started).run()
        return 0
    except DemoFailed as failure:
        print(f"\nThe demonstration failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; stopping what was started.", file=sys.stderr)
        return 130
    finally:
        for process in reversed(started):
            process.stop()
        shutil.rmtree(scratch, ignore_errors=True)


class Demo:
    """The steps, in order; each leaves what the next ones need in a field."""

    def __init__(self, scratch: Path, logs: Path, started: list[Process]):
        self.scratch, self.logs, self.started = scratch, logs, started
        (self.server_http, self.server_dns, self.server_serf, self.server_rpc,
         self.agent_http, self.agent_serf, self.worker_port) = free_ports(7)
        self.consul = Consul(self.server_http)
        self.control = scratch / "supervisor.sock"

    def run(self) -> None:
        self.start_server()
        self.start_supervisor()
        self.wait_for_passing()
        self.show_catalog()
        self.show_dns()
        self.show_status()
        self.ask()
        self.stop()

    def start_server(self) -> None:
        heading("A Consul server", f"as the cluster has one; here on loopback, HTTP port {self.server_http}")
        settings = {
            "server": True, "bootstrap": True, "node_name": "server", "data_dir": str(self.scratch / "server"),
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "disable_update_check": True,
            "performance": {"raft_multiplier": 1},
            "ports": {"http": self.server_http, "dns": self.server_dns, "serf_lan": self.server_serf,
                      "serf_wan": -1, "server": self.server_rpc, "grpc": -1},
        }
        config = self.scratch / "server.json"
        config.write_text(json.dumps(settings))
        command = [os.environ["CONSUL_BIN"], "agent", f"-config-file={config}"]
        self.server = Process("the Consul server", command, self.logs / "demo-server.log")
        self.started.append(self.server)
        self.consul.wait_for_leader(self.server, seconds=30)
        show("it has elected itself leader")

    def start_supervisor(self) -> None:
        heading("supervisor run", "PID 1 of its own PID namespace; spawns the Consul agent and model-runtime side by side")
        flags = {
            "control-socket": self.control,
            "advertise": "127.0.0.1",
            "agent-bin": os.environ["CONSUL_BIN"],
            "agent-data-dir": self.scratch / "agent",
            "agent-node-name": "demo-host",
            "agent-retry-join": f"127.0.0.1:{self.server_serf}",
            "agent-http-addr": f"127.0.0.1:{self.agent_http}",
            "agent-serf-port": self.agent_serf,
            **{f"service-{part}": value for part, value in SERVICE.items()},
            "service-port": self.worker_port,
            "worker-model": os.environ["PILOTLIGHT_NER_MODEL"],
        }
        command = ["supervisor", "run"] + [f"--{flag}={value}" for flag, value in flags.items()]
        show(" \\\n    ".join(command))
        self.began = time.monotonic()
        self.supervisor = Process("the supervisor", sys.argv[1:] + command, self.logs / "demo-supervisor.log")
        self.started.append(self.supervisor)

    def wait_for_passing(self) -> None:
        heading("Waiting for passing", "a blocking query at the server, answered the moment the catalog changes")
        index, seen = 0, ""
        while time.monotonic() - self.began < PASSING_WITHIN:
            self.supervisor.require_alive()
            index, entries = self.consul.entries(NAME, index, wait=1)
            state = ", ".join(f"{check['Name']}: {check['Status']}" for check in own_checks(entries)) or "not in the catalog"
            if state != seen:
                show(f"{time.monotonic() - self.began:6.2f} s  {state}")
                seen = state
            if entries and all(check["Status"] == "passing" for check in entries[0]["Checks"]):
                self.index, self.entry = index, entries[0]
                show(f"{GREEN}passing {time.monotonic() - self.began:.2f} s after the start{PLAIN}")
                return
        raise DemoFailed(f"{NAME} is not passing after {PASSING_WITHIN:.0f} s ({seen}); see {self.supervisor.log}")

    def show_catalog(self) -> None:
        heading("The catalog entry", "as the server gives it to whoever looks for the service")
        service = self.entry["Service"]
        show(json.dumps({key: service[key] for key in ("ID", "Service", "Address", "Port", "Tags", "Meta", "Weights")},
                        indent=2, ensure_ascii=False))
        for check in own_checks([self.entry]):
            show(f"check {check['Name']}: {check['Status']} ({check['Output'].strip()[:70]})")

    def show_dns(self) -> None:
        heading("The DNS answer", f"dig SRV {NAME}.service.consul, asked of the server")
        dig = ["dig", "@127.0.0.1", "-p", str(self.server_dns), "+noall", "+answer", "+additional", "+time=2",
               f"{NAME}.service.consul", "SRV"]
        answer = subprocess.run(dig, capture_output=True, text=True, timeout=15)
        if answer.returncode or str(self.worker_port) not in answer.stdout:
            raise DemoFailed(f"DNS does not know {NAME}: {answer.stdout}{answer.stderr}")
        show(answer.stdout)

    def show_status(self) -> None:
        heading("supervisor status", "over the control socket; exit status 0 means passing")
        # Not captured: on a terminal it may use colour.
        done = subprocess.run(["supervisor", "status", f"--control-socket={self.control}"], timeout=15)
        if done.returncode:
            raise DemoFailed(f"supervisor status ends with {done.returncode}, although the catalog says passing")

    def ask(self) -> None:
        heading("A real answer", "POST /predict at the address and port that the catalog gave")
        show(SENTENCE)
        asked = time.monotonic()
        entities = post(self.entry["Service"]["Port"], "/predict", {"inputs": SENTENCE})
        took = (time.monotonic() - asked) * 1000
        if not isinstance(entities, list) or not entities:
            raise DemoFailed(f"the model found no entity in the sentence: {entities}")
        for entity in entities:
            cut = SENTENCE[entity["start"]:entity["end"]]
            show(f"{entity['entity_group']:<16} {entity['score']:.3f}  {entity['start']:>3}-{entity['end']:<3} {cut}")
        show(f"in {took:.0f} ms")

    def stop(self) -> None:
        heading("SIGTERM", "out of rotation, drain, deregister, stop the worker, leave the cluster, exit")
        gone: dict[str, float] = {}
        watcher = threading.Thread(target=self.watch_removal, args=(gone,), daemon=True)
        watcher.start()
        told = time.monotonic()
        # To PID 1 of the namespace, as `docker stop` does; unshare only waits for it.
        unshare = self.supervisor.child.pid
        (pid_one,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        os.kill(int(pid_one), signal.SIGTERM)
        try:
            status = self.supervisor.child.wait(timeout=STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"the supervisor is still there {STOPPED_WITHIN:.0f} s after SIGTERM; see {self.supervisor.log}")
        exited = time.monotonic()
        watcher.join(timeout=5)
        _, entries = self.consul.entries(NAME, 0, wait=0)
        if entries or "removed" not in gone:
            raise DemoFailed(f"the entry is still in the catalog after the exit: {entries}")
        if gone["removed"] > exited:
            raise DemoFailed(f"the entry went {gone['removed'] - exited:.2f} s after the exit; it must go before")
        if "out" in gone:
            show(f"{gone['out'] - told:6.3f} s  out of the passing set")
        show(f"{gone['removed'] - told:6.3f} s  entry gone from the catalog")
        show(f"{exited - told:6.3f} s  exited")
        show(f"catalog: no {NAME} any more")
        show(f"exit status: {status}")
        if status != 0:
            raise DemoFailed(f"the worker ended on our TERM, so the exit status must be 0; it is {status}")
        print(f"\n{GREEN}{BOLD}That was its life.{PLAIN} Logs: {self.logs}/demo-*.log", flush=True)

    def watch_removal(self, gone: dict[str, float]) -> None:
        """Notes when the server's view changes: no longer passing, then no longer there."""
        index = self.index
        deadline = time.monotonic() + STOPPED_WITHIN
        while time.monotonic() < deadline:
            index, entries = self.consul.entries(NAME, index, wait=1)
            now = time.monotonic()
            if not entries or any(check["Status"] != "passing" for check in entries[0]["Checks"]):
                gone.setdefault("out", now)
            if not entries:
                gone["removed"] = now
                return


def own_checks(entries: list[dict]) -> list[dict]:
    """The service's checks, without the node's."""
    return [check for entry in entries for check in entry["Checks"] if check["ServiceID"]]


if __name__ == "__main__":
    sys.exit(main())
