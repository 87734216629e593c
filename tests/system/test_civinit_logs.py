#!/usr/bin/python3
"""The plumbing of output: through civinit-log, or inherited; and readers that stall."""
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402
import pid1  # noqa: E402
from pid1 import CIVINIT, Container, running  # noqa: E402

if not os.path.exists(civitest.program("civinit-log")):
    print("skip test_civinit_logs: civinit-log is not built")
    sys.exit(0)


def logger(c):
    """The process of civinit-log."""
    for p in pid1.children(c.pid):
        try:
            if os.path.basename(os.readlink(f"/proc/{p}/exe")) == "civinit-log":
                return p
        except OSError:
            pass
    return None


def stalled_pipe(t):
    """Both ends of a pipe that is full and that nobody reads."""
    r, w = os.pipe()
    t.defer(os.close, r)
    t.defer(os.close, w)
    flags = fcntl.fcntl(w, fcntl.F_GETFL)
    fcntl.fcntl(w, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        while True:
            os.write(w, b"x" * 4096)
    except BlockingIOError:
        pass
    fcntl.fcntl(w, fcntl.F_SETFL, flags)
    return w


def test_lines_are_tagged_and_none_is_lost(t):
    c = Container(t, """
[container]
main = m
log = json
[service m]
command = /usr/bin/python3 -c 'import os; [print("line", i) for i in range(20000)]; os.write(2, b"PHP Warning:  oops in x.php on line 1\\n"); os.write(1, b"last without newline")'
after = s
[service s]
command = sh -c 'echo hello $$$$; exec sleep 1000'
ready = exec:true
""")
    t.equal(c.wait(), 0, "exit code")
    records = [json.loads(line) for line in c.log().splitlines()]
    lines = [r["message"] for r in records if r["service"] == "m" and r["stream"] == "stdout"]
    t.equal(lines, [f"line {i}" for i in range(20000)] + ["last without newline"], "lines of m")
    hello = next(r for r in records if r["service"] == "s")
    t.equal(hello["message"], f"hello {hello['pid']}", "tagged with its process")
    t.equal([(r["service"], r["level"]) for r in records if "oops" in r["message"]], [("m", "warning")], "level")
    own = [r for r in records if r["service"] == "civinit"]
    t.equal(own[0]["message"], "civinit: info: service s: starting", "own lines")
    t.equal(own[0]["pid"], 1, "own pid")
    t.match(own[-1]["message"], "^civinit: notice: ends with 0: main service m")


def test_text_and_inherit_side_by_side(t):
    c = Container(t, """
[container]
main = m
[service m]
command = sh -c 'echo plain; exec sleep 1000'
[service s]
command = sh -c 'echo tagged; echo wrong >&2; exec sleep 1000'
log = text
[service j]
command = sh -c 'echo fields; exec sleep 1000'
log = logfmt
""")
    c.wait_log(r"^plain$")
    c.wait_log(r"^\S+Z s stdout \d+ \S+ tagged$")
    c.wait_log(r"^\S+Z s stderr \d+ \S+ wrong$")
    c.wait_log(r'^time=\S+ service=j stream=stdout pid=\d+ .*"?fields"?$')
    c.wait_log(r"^civinit: info: service s: ready$")
    c.ends()


def test_the_logger_dies(t):
    """It starts again; what the services write meanwhile waits in their pipes."""
    c = Container(t, """
[container]
log = text
[service m]
command = sh -c 'echo before; while [ ! -e {dir}/go ]; do sleep 0.02; done; echo after; exec sleep 1000'
""")
    c.wait_log("m stdout .* before$")
    first = logger(c)
    os.kill(first, signal.SIGKILL)
    t.write("go", "")
    c.wait_log(r"m stdout \d+ .* after$")
    assert logger(c) != first
    c.wait_log(r"civinit-log ended \(signal 9\): starts again")
    c.ends()


def test_reload_brings_streams(t):
    base = "[container]\nmain = m\nlog = text\n[service m]\ncommand = sleep 1000\n"
    c = running(t, base)
    c.write(base + "[service s]\ncommand = sh -c 'echo new; exec sleep 1000'\n")
    t.equal(c.ctl("reload").returncode, 0, "reload")
    c.wait_log(r"^\S+Z s stdout \d+ \S+ new$")
    c.ends()


def test_stalled_reader(t):
    """Nobody reads the container's output, a service floods it: process 1 answers, and goes in time."""
    out = stalled_pipe(t)
    c = running(t, """
[container]
main = m
log = text
grace = 3s
[service m]
command = sleep 1000
[service flood]
command = sh -c 'touch {dir}/up; while :; do echo flood; done'
ready = exec:test -e {dir}/up
""", stdout=out)
    t.equal(c.ctl("live").returncode, 0, "live")
    began = time.monotonic()
    c.ends()
    assert time.monotonic() - began < 40, "far longer than the grace time"


def test_stalled_stderr_with_inherit(t):
    """Process 1's own lines are dropped rather than waited for; the pipe stays a blocking one."""
    out = stalled_pipe(t)
    ini = t.write("etc/role.ini", "[container]\nmain = m\n[service m]\ncommand = sleep 1000\n[service s]\ncommand = sh -c 'exit 1'\nbackoff = 1ms\nbackoff_max = 1ms\nmax_restarts = 0\n")
    run = t.path("run")
    p = subprocess.Popen(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", pid1.CIVINIT, ini], stdout=out, stderr=out,
                         stdin=subprocess.DEVNULL, env=dict(os.environ, CIVINIT_RUN_DIR=run), start_new_session=True)
    t.defer(p.wait)
    t.defer(p.kill)
    ctl = lambda *w: t.run(pid1.CIVINIT, *w, env={"CIVINIT_RUN_DIR": run})  # noqa: E731
    civitest.wait_for("it to run", lambda: '"state":"ready"' in ctl("status", "--json", "m").stdout)
    civitest.wait_for("many restarts", lambda: int(re.search(r'"restarts":(\d+)', ctl("status", "--json", "s").stdout)[1]) > 20)
    t.equal(ctl("live").returncode, 0, "live")
    t.equal(fcntl.fcntl(out, fcntl.F_GETFL) & os.O_NONBLOCK, 0, "the shared description is untouched")
    pid = civitest.wait_for("its process", lambda: pid1.children(p.pid))[0]
    os.kill(pid, signal.SIGTERM)
    t.equal(p.wait(60), 0, "exit code")


if __name__ == "__main__":
    pid1.need_root()
    civitest.main(globals())
