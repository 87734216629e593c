#!/usr/bin/python3
"""Services: restarts, limits, readiness and health checks, what a process is started with."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402
import pid1  # noqa: E402
from pid1 import Container, ask, running  # noqa: E402

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


def test_restart_backoff_and_limit(t):
    c = Container(t, """
[container]
main = m
[service m]
command = sleep 1000
[service s]
command = sh -c 'echo run >>{dir}/runs; exit 3'
max_restarts = 3
backoff = 10ms
backoff_max = 20ms
""")
    t.equal(c.wait(), 3, "the limit ends the container with its code")
    t.equal(open(t.path("runs")).read(), "run\n" * 4, "starts")
    log = c.log()
    for part in ("starts again in 10ms", "starts again in 20ms", "service s: failed: exited with 3", "restart limit is used up",
                 "service m: stopping: the container stops"):
        t.contains(log, part)
    t.match(log.splitlines()[-1], "ends with 3: service s: exited with 3 .*restart limit")


def test_restart_policies(t):
    c = Container(t, """
[container]
main = m
[service m]
command = sleep 1000
[service once]
command = true
restart = on-failure
[service again]
command = sh -c 'echo x >>{dir}/again; exit 0'
restart = always
backoff = 1ms
max_restarts = 0
[service well]
command = sh -c 'exit 7'
restart = on-failure
success = 7 8
""")
    c.wait_state("once", "done")
    c.wait_state("well", "done", exit=7)
    civitest.wait_for("three restarts", lambda: c.service("again").get("restarts", 0) >= 3)
    c.ends()


def test_main_may_be_restarted(t):
    c = Container(t, """
[service m]
command = sh -c 'echo x >>{dir}/runs; [ $(wc -l <{dir}/runs) -ge 3 ] || exit 1; exit 0'
restart = on-failure
backoff = 1ms
""")
    t.equal(c.wait(), 0, "exit code")
    t.equal(open(t.path("runs")).read(), "x\n" * 3, "runs")


def test_ready_timeout(t):
    c = Container(t, """
[container]
main = m
[service m]
command = sleep 1000
after = db
[service db]
command = sleep 1000
ready = exec:sh -c 'echo the table is missing; exit 1'
ready_timeout = 300ms
restart = always
""")
    t.equal(c.wait(), 69, "a dependency never became ready")
    t.contains(c.log(), "service db: stopping: not ready within 300ms: the table is missing")
    t.equal(c.log().count("service db: starting"), 1, "starts")
    t.lacks(c.log(), "service m: starting")


def test_not_ready_again_is_a_failure_like_others(t):
    """Once it has been ready, restarts go on."""
    c = running(t, """
[container]
main = m
[service m]
command = sleep 1000
[service db]
command = sh -c 'echo x >>{dir}/runs; exec sleep 1000'
ready = exec:sh -c '[ ! -e {dir}/away ]'
ready_timeout = 200ms
restart = always
max_restarts = 3
backoff = 1ms
health = exec:sh -c '[ ! -e {dir}/away ]'
health_interval = 10ms
health_failures = 1
""")
    t.write("away", "")
    t.equal(c.wait(), 69, "exit code")
    t.equal(open(t.path("runs")).read(), "x\n" * 4, "runs")


def test_ready_by_probe(t):
    """civinit-probe waits itself, and says the last obstacle."""
    if not os.path.exists(civitest.program("civinit-probe")):
        raise civitest.Skip("civinit-probe is not built")
    c = Container(t, """
[service m]
command = /usr/bin/python3 -c 'import os,socket,time; [time.sleep(0.01) for _ in iter(lambda: os.path.exists("{dir}/go"), True)]; s=socket.socket(socket.AF_UNIX); s.bind("{dir}/sock"); s.listen(5); time.sleep(1000)'
ready = unix:{dir}/sock
""")
    c.wait_state("m", "starting")
    t.write("go", "")
    c.wait_container("ready")
    c.ends()
    c = Container(t, "[service m]\ncommand = sleep 1000\nready = unix:{dir}/none\nready_timeout = 200ms\n", name="b")
    t.equal(c.wait(), 69, "exit code")
    t.match(c.log(), "service m: stopping: not ready: .*No such file")


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


def test_health_restarts(t):
    c = Container(t, """
[container]
main = m
[service m]
command = sleep 1000
[service s]
command = sh -c 'touch {dir}/well; exec sleep 1000'
ready = exec:test -e {dir}/well
health = exec:sh -c 'test -e {dir}/well || { echo it is ill; exit 1; }'
health_interval = 20ms
health_failures = 2
backoff = 1ms
""")
    c.wait_state("s", "ready")
    os.unlink(t.path("well"))
    c.wait_state("s", "ready", restarts=1)
    t.contains(c.log(), "health check exec:sh -c 'test -e")
    t.contains(c.log(), "failed (1 of 2): it is ill")
    t.contains(c.log(), "service s: stopping: unhealthy: it is ill")
    t.contains(c.log(), "service s: backoff: unhealthy: it is ill; starts again in 1ms")
    c.ends()


def test_unhealthy_for_good(t):
    """The code that our own signal leaves says nothing: 69."""
    c = Container(t, """
[container]
main = m
[service m]
command = sleep 1000
[service s]
command = sleep 1000
health = exec:false
health_interval = 10ms
health_failures = 1
max_restarts = 1
backoff = 1ms
""")
    t.equal(c.wait(), 69, "exit code")
    t.match(c.log().splitlines()[-1], "ends with 69: service s: unhealthy: .*; restart limit is used up")


def test_hanging_health_check(t):
    c = Container(t, """
[container]
main = m
[service m]
command = sleep 1000
[service s]
command = sh -c 'echo x >>{dir}/runs; exec sleep 1000'
health = exec:sh -c '[ $(wc -l <{dir}/runs) -gt 1 ] || sleep 1000'
health_interval = 10ms
health_timeout = 100ms
health_failures = 1
backoff = 1ms
""")
    c.wait_state("s", "ready", restarts=1)
    t.contains(c.log(), "no answer in time")
    c.ends()


def test_what_a_process_gets(t):
    t.write("env", "# c\nA=file\nexport B='b b'\n")
    t.write("secret", "s3cr3t\n", 0o600)
    os.chmod(t.dir, 0o777)
    t.write("show.py", """
import json, os, resource, signal, sys, time
mask = os.umask(0)
os.umask(mask)
s = dict(uid=os.getuid(), gid=os.getgid(), groups=sorted(os.getgroups()), cwd=os.getcwd(), env=dict(os.environ), nofile=resource.getrlimit(resource.RLIMIT_NOFILE),
         core=resource.getrlimit(resource.RLIMIT_CORE), nice=os.nice(0), oom=int(open("/proc/self/oom_score_adj").read()), umask=mask,
         leads=os.getpid() == os.getsid(0) == os.getpgid(0), fds=sorted(os.listdir("/proc/self/fd")), blocked=[int(x) for x in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
         status=[l for l in open("/proc/self/status") if l.startswith(("SigIgn", "SigBlk"))])
with open(sys.argv[1] + ".new", "w") as f:
    json.dump(s, f)
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(1000)
""")
    c = Container(t, """
[container]
main = m
env.A = container
env.D = container
umask = 0027
[service m]
command = /usr/bin/python3 {dir}/show.py {dir}/m.json
user = www-data
group = 4242
cwd = /usr
env.C = ${X:-default}
env.S = ${file:{dir}/secret}
env_file = {dir}/env
rlimit.nofile = 123:456
rlimit.core = 0
nice = 5
oom_score_adj = 77
[service n]
command = /usr/bin/python3 {dir}/show.py {dir}/n.json
user = 54321
[service o]
command = /usr/bin/python3 {dir}/show.py {dir}/o.json
user = games
""")
    got = {}
    for name in "mno":
        civitest.wait_for(name, lambda: os.path.exists(t.path(name + ".json")))
        got[name] = json.load(open(t.path(name + ".json")))
    m = got["m"]
    t.equal([m[k] for k in ("uid", "gid", "cwd", "nofile", "core", "nice", "oom", "umask", "leads", "blocked")],
            [33, 4242, "/usr", [123, 456], [0, 0], 5, 77, 0o27, True, []], "m")
    t.equal([m["env"].get(k) for k in ("A", "B", "C", "D", "S", "USER", "HOME", "NOTIFY_SOCKET")],
            ["file", "b b", "default", "container", "s3cr3t", "www-data", "/var/www", None], "environment")
    t.equal(m["env"]["CIVINIT_RUN_DIR"], c.run_dir, "CIVINIT_RUN_DIR")
    t.equal(m["fds"], ["0", "1", "2", "3"], "no descriptor leaks (3 is listdir's own)")
    t.equal((got["n"]["uid"], got["n"]["gid"], got["n"]["groups"]), (54321, 54321, [54321] if 54321 in got["n"]["groups"] else []), "a number without an entry")
    t.equal([got["n"]["env"].get(k) for k in ("HOME", "USER", "LOGNAME")], ["/", None, None], "and has no home")
    t.equal((got["o"]["uid"], got["o"]["gid"]), (5, 60), "games")
    c.ends()
    t.lacks(c.log(), "s3cr3t")


def test_as_a_user_that_is_not_there(t):
    """Started as UID 12345 in a directory of its own: everything works, `user` is no matter."""
    os.chmod(t.dir, 0o777)
    # It cannot make a PID namespace itself, and must not see this one's /proc as its own.
    c = running(t, "[service m]\ncommand = sh -c 'id -u; exec sleep 1000'\nuser = www-data\n",
                  wrap=("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"))
    c.wait_log("^12345$")
    t.equal(c.ctl("live").returncode, 0, "root may ask")
    c.ends()


def memory_group(t):
    """A cgroup with a limit of 60 MB, or this test is skipped."""
    v1, v2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
    root = v1 if os.path.exists(v1 + "/memory.limit_in_bytes") else v2
    group = f"{root}/civinit-test-{os.getpid()}"
    try:
        os.mkdir(group)
        t.defer(os.rmdir, group)
        limit = "memory.limit_in_bytes" if root == v1 else "memory.max"
        with open(f"{group}/{limit}", "w") as f:
            f.write("60000000")
    except OSError as e:
        raise civitest.Skip(f"no memory cgroup can be made here: {e}")
    swap = f"{group}/memory.swap.max"
    if os.path.exists(swap):
        with open(swap, "w") as f:
            f.write("0")
    return group


def inside(group):
    return {"wrap": ("sh", "-c", f"echo $$ >{group}/cgroup.procs; exec \"$@\"", "sh"), "env": {"CIVINIT_CGROUP": group}}


def kills(group):
    """How many processes of the group the kernel has killed."""
    name = "memory.events" if os.path.exists(f"{group}/memory.events") else "memory.oom_control"
    return int(dict(line.split() for line in open(f"{group}/{name}"))["oom_kill"])


def needed(group, count):
    """The kernel may kill a second process when the first one ends slowly: then nothing can be said."""
    if kills(group) > count:
        raise civitest.Skip(f"the kernel killed {kills(group)} processes where {count} would have done")


def test_out_of_memory_is_named(t):
    """A real kill by the kernel."""
    group = memory_group(t)
    c = Container(t, """
[container]
main = m
[service m]
command = sleep 1000
[service eater]
command = /usr/bin/python3 -c 'x = b"x" * 200000000; import time; time.sleep(1000)'
max_restarts = 1
backoff = 1ms
oom_score_adj = 500
""", **inside(group))
    code = c.wait()
    needed(group, 2)
    t.equal(code, 137, "exit code")
    t.match(c.log(), r"service eater: backoff: killed by signal 9 \(KILL\) after \S+: out of memory")
    t.match(c.log().splitlines()[-1], "ends with 137: service eater: killed by signal 9 .*out of memory; restart limit")


def test_out_of_memory_of_a_worker(t):
    """The kernel kills a child of a service: that is noticed, too."""
    group = memory_group(t)
    c = Container(t, """
[service m]
command = sh -c '/usr/bin/python3 -c "x = b\\"x\\" * 200000000"; touch {dir}/over; exec sleep 1000'
""", **inside(group))
    said = "error: out of memory: the kernel killed 1 process of this container"
    civitest.wait_for("the kill to be told", lambda: said in c.log() or kills(group) > 1)
    needed(group, 1)
    civitest.wait_for("its count", lambda: c.status()["oom_kills"] == 1)
    c.ends()


if __name__ == "__main__":
    pid1.need_root()
    civitest.main(globals())
