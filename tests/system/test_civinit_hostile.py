#!/usr/bin/python3
"""civinit broken on purpose: floods, garbage, full disks, no descriptors, chains of forks."""
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402
import pid1  # noqa: E402
from pid1 import CIVINIT, TWO, Container, ask, running  # noqa: E402


def test_garbage_on_the_control_socket(t):
    c = running(t, TWO)
    before = [s["pid"] for s in c.status()["services"]]
    rng = random.Random(1)
    for i in range(300):
        got = ask(c.run_dir, bytes(rng.randrange(256) for _ in range(rng.randrange(1, 600))))
        assert got == b"" or got.startswith(b"error "), got
    for line in (b"\n", b" \n", b"stop\n", b"stop \n", b"stop  s\n", b"stop " + b"s" * 290, b"restart m m\n", b"STOP s\n", b"ping\0\n", b"reload ../../etc\n"):
        got = ask(c.run_dir, line)
        assert got.startswith(b"error ") or got == b"", (line, got)
    # Many who say nothing: one more is sent away, and a patient one is heard when they have been dropped.
    silent = []
    for i in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            s.connect(os.path.join(c.run_dir, "control"))
        silent.append(s)
    civitest.wait_for("to be heard again", lambda: c.ctl("live").returncode == 0)
    for s in silent:
        s.close()
    t.equal([s["pid"] for s in c.status()["services"]], before, "nobody was touched")
    c.ends()


FLOOD = """
import array, os, random, socket, sys, time
a = os.environ["NOTIFY_SOCKET"]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("\\0" + a[1:] if a[0] == "@" else a)
rng = random.Random(2)
fds = array.array("i", [0] * 50)
i = 0
while True:
    i += 1
    s.send(rng.choice([b"STATUS=" + b"x" * 3000, b"STATUS=" + bytes(str(i), "ascii"), b"MAINPID=-1", b"MAINPID=1", b"MAINPID=99999999", b"MAINPID=x",
                       b"\\n\\n\\n", b"FDSTORE=1", bytes(rng.randrange(256) for _ in range(100)), b"READY=1" * 100, b"READY=1"]))
    if i % 10 == 0:
        s.sendmsg([b"FDSTORE=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
"""


def test_a_flood_of_notifications(t):
    t.write("flood.py", FLOOD)
    c = Container(t, "[container]\nmain = m\ngrace = 30s\n[service m]\ncommand = sleep 1000\n[service f]\ncommand = /usr/bin/python3 {dir}/flood.py\nready = notify\n")
    c.wait_state("f", "ready")
    for i in range(10):
        t.equal(c.ctl("live").returncode, 0, "live")
    t.equal(len(os.listdir(f"/proc/{c.pid}/fd")) < 20, True, "passed descriptors are not kept")
    pid = c.service("f")["pid"]
    t.equal(c.ctl("restart", "f").returncode, 0, "restart")
    assert c.service("f")["pid"] != pid
    c.ends()


def test_another_user_cannot_say_ready(t):
    c = Container(t, "[service m]\ncommand = sleep 1000\nready = notify\nready_timeout = 100s\n")
    c.wait_state("m", "starting")
    path = os.path.join(c.run_dir, "notify.m")
    said = t.run("setpriv", "--reuid=33", "--regid=33", "--clear-groups", "/usr/bin/python3", "-c",
                 f"import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect({path!r}); s.send(b'READY=1'); s.send(b'STATUS=evil')")
    t.equal(said.returncode, 0, said.stderr)
    # From another PID namespace root has no number here either.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(path)
        s.send(b"READY=1")
    t.equal(c.ctl("live").returncode, 0, "it has had its turn")
    t.equal((c.service("m")["state"], c.service("m")["status"]), ("starting", ""), "unheard")
    c.ends()


def test_a_chain_of_forks_at_the_stop(t):
    """Daemons that answer SIGTERM with a new daemon: over when the grace time is."""
    t.write("chain.py", """
import os, signal, sys, time
def again(*_):
    if os.fork() == 0:
        os.setsid()
        return
    os._exit(0)
signal.signal(signal.SIGTERM, again)
open(sys.argv[1], "w").close()
while True:
    time.sleep(0.01)
""")
    c = running(t, """
[container]
main = m
grace = 3s
[service m]
command = sh -c 'for i in 1 2 3; do setsid /usr/bin/python3 {dir}/chain.py {dir}/up$i & done; exec sleep 1000'
ready = exec:test -e {dir}/up1 -a -e {dir}/up2 -a -e {dir}/up3
""")
    c.ends()
    t.contains(c.log(), "the grace time is over: what is left is killed")


def test_a_full_run_dir(t):
    run = t.path("run-role")
    os.mkdir(run)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", run]).returncode:
        raise civitest.Skip("no tmpfs can be mounted here")
    t.defer(subprocess.run, ["umount", "-l", run])
    with contextlib.suppress(OSError), open(os.path.join(run, "fill"), "wb", buffering=0) as f:
        while True:
            f.write(b"x" * 4096)
    c = Container(t, TWO)
    c.wait_log("warning: no status file: .*: No space left on device")
    t.equal(c.ctl("live").returncode, 0, "live")
    os.unlink(os.path.join(run, "fill"))
    t.contains(ask(c.run_dir, b"restart s\n").decode(), "ok")
    c.wait_log("notice: the status file is there again")
    c.wait_container("ready")
    t.equal(c.log().count("no status file"), 1, "said once")
    c.ends()


def test_a_run_dir_that_is_not_ours(t):
    os.chmod(t.dir, 0o755)
    os.mkdir(t.path("run-role"), 0o700)
    c = Container(t, "[service m]\ncommand = sleep 1000\n", wrap=("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"))
    c.wait_log("warning: no control socket: .*: Permission denied")
    c.wait_log("warning: no status file: .*: Permission denied")
    c.ends()


def test_the_run_dir_vanishes(t):
    c = running(t, TWO)
    shutil.rmtree(c.run_dir)
    os.kill(c.pid, signal.SIGUSR1)  # ends the main service: something to write
    t.equal(c.wait(), 138, "exit code")


def test_no_descriptors(t):
    """None left: clients are told so, checks wait, nothing breaks; then all works again."""
    c = running(t, """
[container]
main = m
[service m]
command = sleep 1000
[service s]
command = sleep 1000
health = exec:true
health_interval = 10ms
""")

    def lasting():
        """The descriptors that are not those of a check."""
        fds = {}
        for x in os.listdir(f"/proc/{c.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                fds[int(x)] = os.readlink(f"/proc/{c.pid}/fd/{x}")
        return [n for n, to in fds.items() if n < 3 or not to.startswith("pipe:")]
    used = next(n for n in range(1000) if n not in lasting())  # the lowest free one
    t.run("prlimit", "--pid", c.pid, f"--nofile={used}:4096")
    c.wait_log("service s: cannot run its check: pipe: Too many open files")
    t.contains(ask(c.run_dir, b"ping\n").decode(), "error 71 out of descriptors")
    # Not even the spare one: the client waits, and process 1 does not spin.
    t.run("prlimit", "--pid", c.pid, "--nofile=3:4096")
    late = t.start(pid1.CIVINIT, "live", env={"CIVINIT_RUN_DIR": c.run_dir})
    c.wait_log("warning: control socket: Too many open files")
    t.run("prlimit", "--pid", c.pid, "--nofile=4096:4096")
    t.equal(late.wait(), 0, "the client that had to wait")
    t.contains(ask(c.run_dir, b"ping\n").decode(), "ok")
    t.equal(c.ctl("restart", "s").returncode, 0, "restart")
    c.ends()


def test_thousands_of_orphans(t):
    t.write("spawn.py", """
import os, sys, time
for i in range(3000):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
open(sys.argv[1], "w").close()
time.sleep(1000)
""")
    c = running(t, "[service m]\ncommand = /usr/bin/python3 {dir}/spawn.py {dir}/up\nready = exec:test -e {dir}/up\n")
    main = c.service("m")["pid"]
    civitest.wait_for("one child to be left", lambda: len(pid1.children(c.pid)) == 1)
    assert main > 1
    c.ends()


def test_a_storm_of_signals(t):
    c = running(t, TWO.replace("command = sleep 1000\n[service s]", "loop = trap : HUP USR1 WINCH\n[service s]"))
    rng = random.Random(3)
    for i in range(20000):
        os.kill(c.pid, rng.choice([signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGCHLD, signal.SIGPIPE]))
    t.equal(c.ctl("live").returncode, 0, "live")
    t.equal(c.status()["state"], "ready", "state")
    c.ends()


def test_many_that_crash_all_the_time(t):
    ini = "[container]\nmain = m\n[service m]\ncommand = sleep 1000\n"
    for i in range(30):
        ini += f"[service s{i}]\ncommand = sh -c 'exit {i + 1}'\nbackoff = 1ms\nbackoff_max = 5ms\nmax_restarts = 0\n"
    c = Container(t, ini)
    civitest.wait_for("many restarts", lambda: sum(s["restarts"] for s in c.status().get("services", [])) > 300)
    t.equal(c.ctl("live").returncode, 0, "live")
    c.ends()


def test_a_stopped_service_is_killed(t):
    c = running(t, TWO.replace("[service s]\n", "[service s]\nstop_timeout = 100ms\n"))
    pids = pid1.children(c.pid)
    t.equal(len(pids), 2, "children")
    inner = c.service("s")["pid"]
    for p in pids:
        if f"NSpid:\t{p}\t{inner}\n" in open(f"/proc/{p}/status").read():
            os.kill(p, signal.SIGSTOP)
            # Until it is: of two signals that wait, SIGTERM would be taken first.
            civitest.wait_for("it to be stopped", lambda: open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()[0] == "T")
            break
    else:
        raise AssertionError(f"no process {inner} among {pids}")
    c.ends()
    t.match(c.log(), "service s: down: killed by signal 9")


def test_main_is_killed_and_leaves_workers(t):
    """As kill -9 of Apache's parent: its workers go, and the container ends with 137."""
    c = running(t, """
[service m]
command = sh -c 'for i in 1 2 3; do sleep 1000 & done; touch {dir}/up; wait'
ready = exec:test -e {dir}/up
""")
    main = [p for p in pid1.children(c.pid)][0]
    workers = civitest.wait_for("workers", lambda: len(pid1.children(main)) == 3 and pid1.children(main))
    os.kill(main, signal.SIGKILL)
    t.equal(c.wait(), 137, "exit code")
    assert not any(civitest.alive(w) for w in workers)
    t.contains(c.log(), "it left processes of its group")


def test_the_most_services(t):
    ini = "[container]\nmain = s0\n" + "".join(f"[service s{i}]\ncommand = sleep 1000\n" + (f"after = s{i - 1}\n" if i else "") for i in range(256))
    c = running(t, ini)
    t.equal(len(c.status()["services"]), 256, "services")
    c.ends()
    e = [n for n, s in c.events() if s == "stopping"]
    t.equal(e, [f"s{i}" for i in reversed(range(256))], "reverse order")
    c = Container(t, ini + "[service more]\ncommand = true\n", name="b")
    t.equal(c.wait(), 78, "one too many")
    t.contains(c.log(), "more than 256 services and tasks")


def hold(path):
    """A write lease: who opens or executes the file waits until it is given back (45 s at most, as the kernel is set)."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(path, os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    return fd


def test_a_file_system_that_hangs_in_exec(t):
    """Process 1 goes on: it answers, and ends in time, while a child's exec does not come back."""
    slow = t.write("slow", f"#!/bin/sh\ntouch {t.dir}/ran\nexec sleep 1000\n", 0o755)
    held = hold(slow)
    ini = TWO.replace("[service s]\ncommand = sleep 1000", "[service s]\ncommand = {dir}/slow")
    c = Container(t, ini)

    def hanging():
        for pid in pid1.children(c.pid):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/syscall") as f:
                if f.read().startswith(("59 ", "221 ")):  # execve of x86-64 and of arm64
                    return pid
        return None

    pid = civitest.wait_for("the exec that hangs", hanging)
    c.wait_container("ready")
    assert ask(c.run_dir, b"ping\n").startswith(b"ok"), "it answers"
    civitest.wait_for("the process in its exec", lambda: hanging() == pid)  # it is seen only while it waits
    fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    civitest.wait_for("the service to run", lambda: os.path.exists(t.path("ran")))
    t.equal(c.service("s")["state"], "ready")
    t.equal(c.stop(), 0, "exit code")
    os.unlink(t.path("ran"))
    os.close(held)
    held = hold(slow)
    c = Container(t, ini)
    civitest.wait_for("the exec that hangs", hanging)
    t.equal(c.stop(), 0, "exit code")
    t.equal(os.path.exists(t.path("ran")), False, "it ran")
    os.close(held)


if __name__ == "__main__":
    pid1.need_root()
    civitest.main(globals())
