"""What the tests of tests/system, tests/images and tests/civicrm share.

A test file defines functions test_X(t) and ends with `civitest.main(globals())`. `t` is a Test:
a folder of its own (t.dir), processes that end with it (t.start), and clean-up (t.defer).
Run one file by hand:  B=build/rel tests/system/test_x.py [part of a test's name]
"""
import atexit
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("B", os.path.join(ROOT, "build/rel")))


def normal_surroundings():
    """What tests may rely on, however they are started: no signal ignored, a usual umask.

    SIGPIPE stays ignored here, or a client that hangs up would end a test that plays the server; subprocess gives
    children the default."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)


def reachable(build):
    """The build folder, or a copy of its programs where every user can run them (also from /root)."""
    path = build
    if not os.path.isdir(build):
        return build  # nothing is built yet: a setup of make deps
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            break
        path = os.path.dirname(path)
    else:
        return build
    copy = os.path.join(tempfile.mkdtemp(prefix="civinit-build-"), os.path.basename(build))
    os.chmod(os.path.dirname(copy), 0o755)
    atexit.register(shutil.rmtree, os.path.dirname(copy), ignore_errors=True)
    shutil.copytree(build, copy, ignore=lambda folder, names: [n for n in names if n in ("obj", "unit") or n.endswith((".a", ".o", ".d"))])
    for folder, _, files in os.walk(copy):
        os.chmod(folder, 0o755)
        for f in files:
            os.chmod(os.path.join(folder, f), 0o755)
    return copy


normal_surroundings()
BUILD = reachable(BUILD)
SAN = BUILD.endswith("/san")
if SAN:
    os.environ.setdefault("LSAN_OPTIONS", f"suppressions={ROOT}/tests/lib/lsan.supp:print_suppressions=0")
LIMIT = 180  # seconds for one test; test.limit = N (function attribute) changes it


class Skip(Exception):
    """Raised by a test that cannot run here: counted aloud."""


class Late(Exception):
    """A wait that found nothing until its deadline."""


def program(name):
    return os.path.join(BUILD, name)


def wait_for(what, condition, seconds=60, every=0.01):
    """Calls condition() until it is true and returns what it returned; polls gently."""
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise Late(f"waited {seconds} s for: {what}")
        time.sleep(every)


def free_port():
    """A TCP port of loopback that nobody uses; not one of those that the kernel gives to clients, so that none gets it."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        first = int(f.read().split()[0])
    ports = range(first // 2, first) if first >= 4096 else range(20000, 60000)
    while True:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", random.choice(ports)))
            return s.getsockname()[1]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Process:
    """A started program whose output goes to a file, so that it never stalls."""

    def __init__(self, t, command, stdin=None, env=None, cwd=None, user=None, stdout=None, new_session=True):
        self.out_path = os.path.join(t.dir, f"out.{len(t.processes)}")
        self.out = open(self.out_path, "wb")
        full = dict(os.environ)
        full.update({k: str(v) for k, v in (env or {}).items()})
        for k in [k for k, v in (env or {}).items() if v is None]:
            full.pop(k, None)
        self.popen = subprocess.Popen([str(c) for c in command], stdin=stdin or subprocess.DEVNULL,
                                      stdout=stdout if stdout is not None else self.out, stderr=self.out,
                                      env=full, cwd=cwd or t.dir, start_new_session=new_session, user=user)
        self.pid = self.popen.pid
        self.command = command

    def text(self):
        with open(self.out_path, errors="replace") as f:
            return f.read()

    def wait(self, seconds=60):
        """The exit code (-N: signal N)."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Late(f"waited {seconds} s for the end of {self.command}; its output:\n{self.text()[-3000:]}")

    def wait_text(self, pattern, seconds=60):
        """Waits until the output matches the regular expression; its match."""
        def look():
            m = re.search(pattern, self.text(), re.M)
            if not m and self.popen.poll() is not None:
                m = re.search(pattern, self.text(), re.M)
                if not m:
                    raise Late(f"{self.command} ended with {self.popen.returncode} without {pattern!r}:\n{self.text()[-3000:]}")
            return m
        try:
            return wait_for(f"{pattern!r} in the output of {self.command}", look, seconds)
        except Late as e:
            raise Late(f"{e}\n{self.text()[-3000:]}") from None

    def signal(self, number):
        os.kill(self.pid, number)

    def stop(self):
        """SIGTERM and the end: for a civinit, whose services would outlive its SIGKILL."""
        if self.popen.poll() is None:
            self.popen.terminate()
            self.wait()

    def end(self):
        if self.popen.poll() is None and os.path.basename(self.popen.args[0]) == "civinit":
            # Its services have sessions of their own: it ends them, unless it hangs.
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                self.popen.terminate()
                self.popen.wait(30)
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                self.popen.kill()
            self.popen.wait()
        self.out.close()


class Test:
    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix=f"civinit-{name[:40]}-")
        os.chmod(self.dir, 0o755)
        self.stack = contextlib.ExitStack()
        self.stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        self.processes = []

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def write(self, name, text, mode=0o644):
        """A file in the test's folder (text or bytes); its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path

    def start(self, *command, **options):
        p = Process(self, command, **options)
        self.processes.append(p)
        self.stack.callback(p.end)
        return p

    def run(self, *command, seconds=60, input=None, env=None, cwd=None):
        """Runs to the end; a CompletedProcess with text output."""
        full = dict(os.environ)
        full.update({k: str(v) for k, v in (env or {}).items()})
        for k in [k for k, v in (env or {}).items() if v is None]:
            full.pop(k, None)
        return subprocess.run([str(c) for c in command], input=input, capture_output=True, text=True, errors="replace",
                              timeout=seconds, env=full, cwd=cwd or self.dir, stdin=None if input is not None else subprocess.DEVNULL)

    def defer(self, function, *args):
        self.stack.callback(function, *args)

    # Assertions that show both sides.
    def equal(self, got, want, what=""):
        assert got == want, f"{what}: got {got!r}, want {want!r}"

    def contains(self, text, part):
        assert part in text, f"{part!r} is not in:\n{text[-3000:]}"

    def lacks(self, text, part):
        assert part not in text, f"{part!r} is in:\n{text[-3000:]}"

    def match(self, text, pattern):
        m = re.search(pattern, text, re.M)
        assert m, f"{pattern!r} does not match:\n{text[-3000:]}"
        return m


def _alarm(number, frame):
    raise Late("the test's own time limit")


def main(names):
    """Runs the tests of a file: those whose name contains one of argv's patterns, else all."""
    signal.signal(signal.SIGALRM, _alarm)
    signal.signal(signal.SIGTERM, lambda n, f: sys.exit(1))
    tests = [(n, f) for n, f in names.items() if n.startswith("test_") and callable(f)]
    if sys.argv[1:]:
        tests = [(n, f) for n, f in tests if any(p in n for p in sys.argv[1:])]
    failed = False
    for name, function in tests:
        t = Test(name)
        try:
            signal.alarm(getattr(function, "limit", LIMIT))
            function(t)
            signal.alarm(0)
            print(f"ok {name}", flush=True)
        except Skip as e:
            signal.alarm(0)
            print(f"skip {name}: {e}", flush=True)
        except BaseException as e:  # also SystemExit: clean up, then go
            signal.alarm(0)
            failed = True
            traceback.print_exc()
            for p in t.processes[-4:]:
                with contextlib.suppress(OSError):
                    print(f"--- output of {p.command}:\n{p.text()[-4000:]}")
            why = str(e).splitlines()[0] if str(e) else type(e).__name__
            print(f"FAIL {name}: {why}", flush=True)
            if isinstance(e, (SystemExit, KeyboardInterrupt)):
                t.stack.close()
                raise
        finally:
            t.stack.close()
    if "shared_end" in names:
        names["shared_end"]()
    sys.exit(1 if failed else 0)
