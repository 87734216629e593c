#!/usr/bin/python3
"""Services: restarts, limits, readiness and health checks, what a process is started with."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402
import pid1  # noqa: E402
from pid1 import Container, running  # noqa: E402


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
