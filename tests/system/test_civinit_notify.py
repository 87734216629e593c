#!/usr/bin/python3
"""Services that say themselves how they are: sd_notify, MAINPID=, fd:N."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402
import pid1  # noqa: E402
from pid1 import Container, running  # noqa: E402

# A service that says sd_notify lines: each line of the file {dir}/say is sent, then it is removed.
SAYER = """#!/usr/bin/python3
import os, socket, sys, time
def say(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    a = os.environ["NOTIFY_SOCKET"]
    s.connect("\\0" + a[1:] if a[0] == "@" else a)
    s.send(text.encode())
path = sys.argv[1]
while True:
    if os.path.exists(path):
        text = open(path).read()
        os.unlink(path)
        if text == "exit":
            sys.exit(0)
        if text == "fork":
            pid = os.fork()
            if pid:
                say(f"MAINPID={pid}\\nREADY=1")
                sys.exit(0)
            continue
        say(text)
    time.sleep(0.01)
"""


def say(t, text):
    t.write("say.new", text)
    os.rename(t.path("say.new"), t.path("say"))
    civitest.wait_for("it to be said", lambda: not os.path.exists(t.path("say")))


def test_notify(t):
    t.write("sayer", SAYER, 0o755)
    c = Container(t, "[service m]\ncommand = {dir}/sayer {dir}/say\nready = notify\nstop_timeout = 20s\n")
    c.wait_state("m", "starting")
    say(t, "STATUS=warming 50 % of\tit")
    civitest.wait_for("the status", lambda: c.service("m")["status"] == "warming 50 % of\tit")
    t.equal(c.service("m")["state"], "starting", "not ready yet")
    say(t, "STATUS=running\nREADY=1")
    c.wait_state("m", "ready", status="running")
    t.contains(c.ctl("status").stdout, "running")
    say(t, "STOPPING=1")
    c.wait_state("m", "stopping")
    t.equal(c.ctl("ready").returncode, 1, "ready")
    say(t, "exit")
    t.equal(c.wait(), 0, "exit code")
    t.contains(c.log(), "service m: stopping: it says that it stops")


def test_notify_main_pid(t):
    t.write("sayer", SAYER, 0o755)
    c = Container(t, "[container]\nmain = m\n[service m]\ncommand = sleep 1000\n"
                     "[service d]\ncommand = {dir}/sayer {dir}/say\nready = notify\nrestart = on-failure\n")
    first = c.wait_state("d", "starting")["pid"]
    say(t, "fork")
    second = c.wait_state("d", "ready")["pid"]
    assert first != second
    say(t, "STATUS=the child")
    civitest.wait_for("the status", lambda: c.service("d").get("status") == "the child")
    say(t, "exit")
    c.wait_state("d", "done")
    c.ends()


def test_notify_main_pid_and_gone(t):
    """What a service said before it ended is heard first, however late process 1 looks."""
    t.write("sayer", SAYER, 0o755)
    c = Container(t, "[service d]\ncommand = {dir}/sayer {dir}/say\nready = notify\n")
    first = c.wait_state("d", "starting")["pid"]
    parent = pid1.children(c.pid)[0]
    os.kill(c.pid, signal.SIGSTOP)
    say(t, "fork")
    civitest.wait_for("the first to end", lambda: not civitest.alive(parent))
    os.kill(c.pid, signal.SIGCONT)
    assert c.wait_state("d", "ready")["pid"] != first
    c.ends()


WRAPPER = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
pid = int(sys.argv[2]) if len(sys.argv) > 2 else os.fork()
if not pid:
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    os._exit(7)
s.send(b"MAINPID=%d\\nREADY=1" % pid)
os.wait() if len(sys.argv) < 3 else 0
time.sleep(1000)
"""


def test_notify_main_pid_of_a_child_that_is_not_ours(t):
    """Its parent has its code: when it ends, that one is the main process again, and can be stopped."""
    t.write("wrapper.py", WRAPPER)
    ini = "[container]\nmain = w\n%s[service w]\ncommand = /usr/bin/python3 {dir}/wrapper.py {dir}/go\nready = notify\n"
    c = running(t, ini % "")
    pid = c.service("w")["pid"]
    c.write(ini % "[service before]\ncommand = sleep 1000\n")  # which gives it another place
    t.equal(c.ctl("reload").stdout, "1 added, 0 changed, 0 removed\n", "reload")
    c.wait_container("ready")
    t.write("go", "")
    c.wait_log("service w: main process .* has ended; .* is it again")
    civitest.wait_for("the wrapper to be it", lambda: c.service("w")["pid"] not in (0, pid))
    t.equal(c.service("w")["state"], "ready", "state")
    c.ends()
    t.lacks(c.log(), "killed\n")


def test_notify_main_pid_of_another(t):
    """A service cannot name anybody else's process: that one would be killed for it."""
    t.write("wrapper.py", WRAPPER)
    os.chmod(t.dir, 0o755)
    c = running(t, """
[container]
main = m
[service m]
command = sh -c 'sleep 1000 & echo $! >{dir}/victim; wait'
ready = exec:test -s {dir}/victim
[service evil]
command = sh -c 'exec /usr/bin/python3 {dir}/wrapper.py x $(cat {dir}/victim)'
user = nobody
after = m
ready = notify
""")
    c.wait_log(r"warning: service evil: MAINPID=\d+ is no process of its own")
    t.equal(c.ctl("stop", "evil").returncode, 0, "stop")
    t.equal(c.service("m")["state"], "ready", "m")
    c.ends()
    # Nor an orphan of another user, in a session of its own.
    orphan = "(setsid sh -c \"echo \\$\\$ >{dir}/orphan; exec sleep 1000\" &); while [ ! -s {dir}/orphan ]; do sleep 0.02; done; exec sleep 1000"
    c = running(t, f"[container]\nmain = m\n[service m]\ncommand = sh -c '{orphan}'\nready = exec:test -s {{dir}}/orphan\n[service evil]\n"
                   "command = sh -c 'exec /usr/bin/python3 {dir}/wrapper.py x $(cat {dir}/orphan)'\nuser = nobody\nafter = m\nready = notify\n", name="b")
    c.wait_log(r"warning: service evil: MAINPID=\d+ is no process of its own")
    c.ends()


def test_notify_without_a_run_dir(t):
    """Where no socket can be made in the run dir, it is an abstract one."""
    t.write("sayer", SAYER, 0o755)
    t.write("file", "")
    c = Container(t, "[container]\nrun_dir = {dir}/file/none\n[service m]\ncommand = sh -c 'echo $NOTIFY_SOCKET; exec {dir}/sayer {dir}/say'\nready = notify\n",
                  env={"CIVINIT_RUN_DIR": None})
    c.wait_log(r"^@\S+$")
    say(t, "READY=1")
    c.wait_log("service m: ready")
    t.contains(c.log(), "warning: no status file:")
    c.ends()


def test_ready_fd(t):
    c = Container(t, """
[service m]
command = sh -c 'while [ ! -e {dir}/go ]; do sleep 0.02; done; echo >&5; exec 5>&-; exec sleep 1000'
ready = fd:5
""")
    c.wait_state("m", "starting")
    t.write("go", "")
    c.wait_state("m", "ready")
    c.ends()


if __name__ == "__main__":
    pid1.need_root()
    civitest.main(globals())
