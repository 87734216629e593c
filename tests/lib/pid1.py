"""civinit as real process 1: in a PID namespace of its own, made by unshare(1) as root."""
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys

import civitest

CIVINIT = civitest.program("civinit")
TERMINAL = ("down", "failed", "done")


# A main service and another one.
TWO = """
[container]
main = m
[service m]
command = sleep 1000
[service s]
command = sleep 1000
"""


class Container:
    """One running civinit. Its configuration is `ini`, where {dir} is the test's folder, and a line "loop = SHELL" makes
    a service that runs these shell commands, is ready then, and does nothing until a signal comes."""
    count = itertools.count()

    def __init__(self, t, ini, *words, env=None, pid1=True, name="role", stdout=None, wrap=(), user=None, once=False):
        self.t = t
        self.number, self.loops = next(self.count), []
        self.run_dir = t.path(f"run-{name}")
        self.ini_path = t.path("etc", f"{name}.ini")
        self.write(ini)
        full = {"CIVINIT_RUN_DIR": self.run_dir, "CIVINIT_CONFIG_DIR": t.path("etc"), "CIVINIT_ONCE": None, "CIVINIT_LOG": None}
        full.update(env or {})
        command = [CIVINIT, name, *(["--once"] if once else []), *(["--", *words] if words else [])]
        if pid1:
            command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *wrap, *command]
        self.process = t.start(*command, env=full, stdout=stdout, user=user)
        self.pid = civitest.wait_for("process 1", self._find) if pid1 else self.process.pid
        t.defer(self._kill)

    def _kill(self):
        """The namespace with all that is in it, also when unshare has already been killed."""
        if self.process.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.popen.wait(20)

    def _find(self):
        if self.process.popen.poll() is not None:
            return -1
        with contextlib.suppress(FileNotFoundError):
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
                kids = f.read().split()
            return int(kids[0]) if kids else None
        return None

    def write(self, ini):
        self.t.write(os.path.relpath(self.ini_path, self.t.dir), re.sub(r"^loop = (.*)$", self._loop, ini, flags=re.M).replace("{dir}", self.t.dir))

    def _loop(self, m):
        if m[1] not in self.loops:
            self.loops.append(m[1])
        up = self.t.path(f"up.{self.number}.{self.loops.index(m[1])}")
        return f"command = sh -c '{m[1]}; touch {up}; while :; do sleep 0.02; done'\nready = exec:test -e {up}"

    def ctl(self, *words, seconds=60):
        return self.t.run(CIVINIT, *words, env={"CIVINIT_RUN_DIR": self.run_dir, "CIVINIT_CONFIG_DIR": self.t.path("etc")}, seconds=seconds)

    def status(self):
        """What the status file says, or {} when there is none."""
        r = self.ctl("status", "--json")
        return json.loads(r.stdout) if r.returncode == 0 else {}

    def service(self, name):
        for s in self.status().get("services", []):
            if s["name"] == name:
                return s
        return {}

    def wait_state(self, name, *states, **more):
        """Waits until the service is in one of the states (and has these values)."""
        def look():
            s = self.service(name)
            if s.get("state") in states and all(s.get(k) == v for k, v in more.items()):
                return s
            if self.process.popen.poll() is not None:
                raise civitest.Late(f"civinit ended with {self.process.popen.returncode}:\n{self.log()[-3000:]}")
            return None
        try:
            return civitest.wait_for(f"{name} to be {states} {more or ''}", look)
        except civitest.Late as e:
            raise civitest.Late(f"{e}\n{self.status()}\n{self.log()[-3000:]}") from None

    def wait_container(self, state):
        def look():
            got = self.status()
            if self.process.popen.poll() is not None:
                raise civitest.Late(f"civinit ended with {self.process.popen.returncode}:\n{self.log()[-3000:]}")
            return got if got.get("state") == state else None
        return civitest.wait_for(f"the container to be {state}", look)

    def term(self, number=signal.SIGTERM):
        os.kill(self.pid, number)

    def wait(self, seconds=60):
        return self.process.wait(seconds)

    def stop(self):
        """SIGTERM, and the exit code."""
        self.term()
        return self.wait()

    def ends(self, code=0):
        """Stops it: it ends with this code."""
        self.t.equal(self.stop(), code, f"exit code; its log:\n{self.log()[-3000:]}\n")

    def log(self):
        return self.process.text()

    def wait_log(self, pattern, seconds=60):
        return self.process.wait_text(pattern, seconds)

    def events(self):
        """[(service, state)] in the order of the log."""
        return re.findall(r"(?:service|task) (\S+): (down|starting|ready|stopping|backoff|failed|done)\b", self.log())


def running(*arguments, **options):
    """A Container that is ready."""
    c = Container(*arguments, **options)
    c.wait_container("ready")
    return c


def ask(run_dir, data, shut=True):
    """Bytes to the control socket; what comes back until it is closed."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(os.path.join(run_dir, "control"))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while True:
                part = s.recv(4096)
                if not part:
                    break
                got += part
        return got


def children(pid):
    """PIDs of the direct children, as this namespace sees them."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(x) for x in f.read().split()]
    except FileNotFoundError:
        return []


def need_root():
    if os.geteuid() != 0:
        raise civitest.Skip("needs root for a PID namespace")
