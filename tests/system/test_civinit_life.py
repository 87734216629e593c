#!/usr/bin/python3
"""The life of a container: order, ends and exit codes, signals, orphans, deadlines."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402
import pid1  # noqa: E402
from pid1 import Container, running  # noqa: E402


def index(events, *wanted):
    return [events.index(w) for w in wanted]


def test_order_by_readiness_and_reverse_stop(t):
    c = Container(t, """
[container]
main = web
[service web]
command = sleep 1000
after = router warm
[service router]
command = sh -c 'while [ ! -e {dir}/go ]; do sleep 0.05; done; touch {dir}/up; exec sleep 1000'
ready = exec:test -e {dir}/up
[task warm]
command = sh -c 'echo warm-up'
after = router
[service extra]
command = sleep 1000
""")
    c.wait_state("router", "starting")
    c.wait_state("extra", "ready")
    t.equal(c.service("web")["state"], "down", "web waits")
    t.equal(c.service("warm")["state"], "down", "the task waits")
    t.equal(c.ctl("ready").returncode, 1, "civinit ready")
    t.contains(c.status()["reason"], "router: starting")
    t.write("go", "")
    c.wait_container("ready")
    t.equal(c.ctl("ready").returncode, 0, "civinit ready")
    c.ends()
    e = c.events()
    order = index(e, ("router", "ready"), ("warm", "done"), ("web", "ready"), ("web", "stopping"), ("web", "down"),
                  ("router", "stopping"), ("router", "down"))
    t.equal(order, sorted(order), f"order of {e}")
    t.equal(len(e), len(set(e)), "each transition is logged once")


def test_main_code_decides(t):
    for command, want in (("sh -c 'exit 37'", 37), ("sh -c 'kill -9 $$$$'", 137), ("true", 0)):
        c = Container(t, f"[container]\nmain = m\n[service m]\ncommand = {command}\n[service s]\ncommand = sleep 1000\n")
        t.equal(c.wait(), want, command)
        t.match(c.log().splitlines()[-1], rf"civinit: \w+: ends with {want}: main service m: (exited|killed)")


def test_stop_asked_is_success(t):
    """Obedient or with 143 of its own: 0. With a code of its own: that code."""
    for trap, want in (("exit 143", 0), ("exit 5", 5), ("exit 0", 0)):
        running(t, f"[service m]\nloop = trap \"{trap}\" TERM\n").ends(want)


def test_sidecar_code_does_not_matter_when_asked(t):
    c = running(t, """
[container]
main = m
[service m]
command = sleep 1000
[service s]
loop = trap "exit 9" TERM
""")
    c.ends()


def test_deaf_service_is_killed(t):
    c = running(t, """
[container]
main = m
grace = 50s
[service m]
command = sleep 1000
after = deaf
[service deaf]
loop = trap "" TERM
stop_timeout = 300ms
""")
    c.ends()
    t.contains(c.log(), "service deaf: does not end: killed")
    t.contains(c.log(), "service deaf: down: killed by signal 9 (KILL)")


def test_grace_is_told(t):
    """Each knows how long it has from its stop signal on: with its own limit, and what others need after it."""
    c = Container(t, """
[container]
main = m
grace = 20s
drain = 5s
[service m]
command = sh -c 'echo "m $CIVINIT_GRACE"; exec sleep 1000'
after = s
stop_timeout = grace
[service s]
command = sh -c 'echo "s $CIVINIT_GRACE"; exec sleep 1000'
[service short]
command = sh -c 'echo "short $CIVINIT_GRACE"; exec sleep 1000'
stop_timeout = 900ms
[service own]
command = sh -c 'echo "own $CIVINIT_GRACE"; exec sleep 1000'
env.CIVINIT_GRACE = mine
[task t]
command = sh -c 'echo "t $CIVINIT_GRACE"'
""", env={"CIVINIT_GRACE": "from outside"})
    for line in ("m 13", "s 10", "short 0", "own mine", "t 10"):
        c.wait_log(f"^{line}$")
    c.wait_container("ready")
    # Another grace is no reason for a restart.
    c.write(open(c.ini_path).read().replace("grace = 20s", "grace = 30s"))
    t.equal(c.ctl("reload").stdout, "0 added, 0 changed, 0 removed\n", "reload")
    c.term()
    c.ends()


def test_grace_is_the_end_of_all(t):
    """A deaf main service, a deaf sidecar behind it and a deaf daemon: gone in time, with 137."""
    c = running(t, """
[container]
main = m
grace = 2s
[service m]
command = sh -c 'trap "" TERM; setsid sh -c "trap : TERM; touch {dir}/up2; while :; do sleep 0.05; done" & touch {dir}/up; while :; do sleep 0.05; done'
after = s
ready = exec:test -e {dir}/up -a -e {dir}/up2
stop_timeout = 2s
[service s]
command = sh -c 'trap "" TERM; while :; do sleep 0.05; done'
stop_timeout = 2s
""")
    c.ends(137)
    t.contains(c.log(), "service m: down: killed by signal 9")
    t.match(c.log().splitlines()[-1], "ends with 137: main service m")


def test_what_is_needed_through_a_task_stops_last(t):
    """The task is done long since; who came after it still uses what the task came after."""
    c = Container(t, """
[container]
main = jobs
[service router]
command = sleep 1000
[task database]
command = true
after = router
[service jobs]
command = sh -c 'trap "while [ ! -e {dir}/go ]; do sleep 0.05; done; exit 0" TERM; touch {dir}/up; while :; do sleep 0.05; done'
ready = exec:test -e {dir}/up
after = database
""")
    c.wait_container("ready")
    c.term()
    c.wait_state("jobs", "stopping")
    t.equal(c.service("router")["state"], "ready", "the router, while the jobs end")
    t.write("go", "")
    t.equal(c.wait(), 0)
    e = c.events()
    order = index(e, ("jobs", "down"), ("router", "stopping"), ("router", "down"))
    t.equal(order, sorted(order), f"order of {e}")


def test_drain(t):
    """Not ready at once, live all the time, nothing stopped before the pause is over."""
    c = running(t, """
[container]
grace = 40s
drain = 20s
[service m]
command = sleep 1000
""")
    c.term()
    s = c.wait_container("draining")
    t.equal(s["services"][0]["state"], "ready", "the service runs on")
    t.equal(c.ctl("ready").returncode, 1, "ready")
    t.equal(c.ctl("live").returncode, 0, "live")
    t.equal(c.ctl("restart", "m").returncode, 75, "nothing is started any more")
    assert s["deadline"] > s["started"]
    c.term()  # in a hurry: the rest of the pause is skipped
    t.equal(c.wait(), 0, "exit code")


def test_drain_ends_by_itself(t):
    c = running(t, "[container]\ngrace = 40s\ndrain = 200ms\n[service m]\ncommand = sleep 1000\n")
    c.ends()
    t.match(c.log(), r"notice: SIGTERM: not ready any more; stops in 200ms")


def test_orphans_are_reaped_and_awaited(t):
    """Those that left their group: reaped while it runs, awaited at the end."""
    c = running(t, """
[service m]
command = sh -c 'i=0; while [ $i -lt 30 ]; do (setsid sh -c "sleep 0.01" &); i=$((i+1)); done; (setsid sh -c "trap \\"sleep 0.3; echo written >{dir}/late; exit\\" TERM; touch {dir}/up; while :; do sleep 0.05; done" &); exec sleep 1000'
ready = exec:test -e {dir}/up
""")

    def zombies():
        out = t.run("ps", "--ppid", str(c.pid), "-o", "stat=").stdout.split()
        return [s for s in out if s.startswith("Z")]
    civitest.wait_for("no zombie left", lambda: not zombies())
    c.ends()
    t.equal(open(t.path("late")).read(), "written\n", "the daemon had its time")


def test_leftover_group_ends_before_restart(t):
    """The main process dies and leaves a child in its group: that one goes before the restart."""
    c = Container(t, """
[container]
main = m
[service m]
command = sleep 1000
[service s]
command = sh -c 'echo x >>{dir}/starts; sh -c "echo \\$\\$ >{dir}/child; exec sleep 1000" & while [ ! -e {dir}/crash ]; do sleep 0.05; done; rm {dir}/crash; exit 3'
backoff = 10ms
""")
    civitest.wait_for("the child", lambda: os.path.exists(t.path("child")))
    c.wait_state("s", "ready")
    t.write("crash", "")
    c.wait_state("s", "ready", restarts=1)
    t.contains(c.log(), "service s: stopping: exited with 3")
    e = c.events()
    t.equal([x for x in e if x[0] == "s"], [("s", x) for x in ("starting", "ready", "stopping", "backoff", "down", "starting", "ready")], "states")
    c.ends()


def test_signals_are_forwarded(t):
    c = running(t, """
[service m]
loop = for s in HUP USR1 USR2 WINCH QUIT; do trap "echo got $s >>{dir}/got" $s; done
""")
    for s in ("HUP", "USR1", "USR2", "WINCH", "QUIT"):
        c.term(getattr(signal, "SIG" + s))
        civitest.wait_for(s, lambda: os.path.exists(t.path("got")) and f"got {s}\n" in open(t.path("got")).read())
    c.ends()


def test_interrupt_stops(t):
    c = running(t, "[service m]\ncommand = sleep 1000\n")
    c.term(signal.SIGINT)
    t.equal(c.wait(), 0, "exit code")
    t.match(c.log().splitlines()[-1], "ends with 0: SIGINT")


def test_stop_signal(t):
    c = running(t, """
[service m]
loop = trap "exit 6" TERM; trap "echo graceful; exit 0" WINCH
stop_signal = WINCH
""")
    c.ends()
    t.contains(c.log(), "graceful")


def test_not_process_1(t):
    """Then it is a child subreaper: orphans come to it all the same."""
    c = running(t, """
[service m]
command = sh -c '(setsid sh -c "trap \\"echo end >{dir}/end; exit\\" TERM; echo \\$\\$ >{dir}/pid; while :; do sleep 0.05; done" &); exec sleep 1000'
ready = exec:test -s {dir}/pid
""", pid1=False)
    daemon = int(open(t.path("pid")).read())
    civitest.wait_for("adoption", lambda: daemon in pid1.children(c.pid))
    c.ends()
    t.equal(open(t.path("end")).read(), "end\n", "it was told to end, and awaited")
    assert not civitest.alive(daemon)


def test_termination_log(t):
    path = t.write("why", "what an earlier one left " * 20)
    c = Container(t, f"[container]\ntermination_log = {path}\n[service m]\ncommand = sh -c 'exit 4'\n")
    t.equal(c.wait(), 4, "exit code")
    t.match(open(path).read(), r"^ends with 4: main service m: exited with 4 after \S+\n$")


def test_termination_log_of_a_wrong_configuration(t):
    """Kubernetes shows what is wrong, not only that something is."""
    os.makedirs(t.path("dev"))
    why = t.write("dev/termination-log", "")
    t.run("cp", "-a", "/dev/null", t.path("dev"))
    c = Container(t, "[service m]\ncomand = true\n", wrap=("sh", "-c", f"mount --bind {t.path('dev')} /dev && exec \"$@\"", "sh"))
    t.equal(c.wait(), 78, "exit code")
    t.match(open(why).read(), r"\A\S+role.ini:2: \[service m\] comand: unknown key; did you mean \"command\"\?\n.*1 problem in the configuration\n\Z")


def test_tasks(t):
    c = Container(t, """
[task one]
command = sh -c 'echo run >>{dir}/runs; [ $(wc -l <{dir}/runs) -ge 3 ]'
retry = 5
backoff = 1ms
[task two]
command = sh -c 'cat {dir}/runs'
after = one
""")
    t.equal(c.wait(), 0, "only tasks: it ends when they are done")
    t.equal(open(t.path("runs")).read(), "run\n" * 3, "tries")
    t.match(c.log().splitlines()[-1], "ends with 0: all tasks are done")


def test_failing_task_ends_the_container(t):
    c = Container(t, "[task migrate]\ncommand = sh -c 'exit 12'\n[service m]\ncommand = touch {dir}/started\nafter = migrate\n")
    t.equal(c.wait(), 12, "exit code")
    assert not os.path.exists(t.path("started"))
    t.match(c.log().splitlines()[-1], "ends with 12: task migrate: exited with 12")


def test_task_timeout(t):
    c = Container(t, "[task slow]\ncommand = sleep 1000\ntimeout = 100ms\n[service m]\ncommand = true\nafter = slow\n")
    t.equal(c.wait(), 69, "exit code")
    t.contains(c.log(), "task slow: stopping: not done within 100ms")


def test_idle_means_asleep(t):
    """Nothing to do: process 1 waits without any timeout, so it never wakes up by itself."""
    c = running(t, "[container]\nmain = a\n" + "".join(f"[service {x}]\ncommand = sleep 1000\n" for x in "abc"))
    if not os.access(f"/proc/{c.pid}/syscall", os.R_OK):
        raise civitest.Skip("no /proc/PID/syscall here")

    def timeout():
        words = open(f"/proc/{c.pid}/syscall").read().split()
        return int(words[4], 16) & 0xffffffff if words[0] in ("232", "22") else None  # epoll_wait, epoll_pwait
    civitest.wait_for("it to wait forever", lambda: timeout() == 0xffffffff)
    c.ends()


def test_sigterm_while_it_starts(t):
    """A SIGTERM that comes while the configuration is read is not lost."""
    for i in range(20):
        c = Container(t, "[service m]\ncommand = sleep 1000\n" + "".join(f"env.A{k} = {k}\n" for k in range(2000)), name=f"r{i}")
        # SIGUSR1 tells: unshare itself blocks SIGTERM for a moment.
        civitest.wait_for("signals to be blocked", lambda: c.process.popen.poll() is not None or int(
            open(f"/proc/{c.pid}/status").read().split("SigBlk:")[1].split()[0], 16) & (1 << 9))
        c.ends()


def test_once_and_words(t):
    ini = "[container]\nmain = m\n[service m]\ncommand = sh -c 'echo \"[$*]\" ${CIVINIT_ONCE:+once}' x\nrestart = always\n"
    c = Container(t, ini, "a b", "c", once=True)
    t.equal(c.wait(), 0, "exit code")
    t.contains(c.log(), "[a b c] once")


if __name__ == "__main__":
    pid1.need_root()
    civitest.main(globals())
