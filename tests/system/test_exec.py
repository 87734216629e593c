#!/usr/bin/env python3
"""`civinit exec`, alone and as tini and dumb-init, as real process 1 of a PID namespace."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402

CIVINIT = civitest.program("civinit")
NS = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def link(t, name):
    path = t.path(name)
    os.symlink(CIVINIT, path)
    return path


def pid1_of(p):
    """The process 1 of a namespace that unshare made: unshare's only child, seen from outside."""
    def look():
        try:
            with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
                return int(f.read().split()[0])
        except (IndexError, FileNotFoundError):
            return 0
    return civitest.wait_for("process 1", look)


def test_exit_codes(t):
    for command, want in ((["sh", "-c", "exit 37"], 37), (["sh", "-c", "kill -9 $$"], 137), (["true"], 0),
                          (["/nonexistent"], 127), (["/etc/passwd"], 126)):
        r = t.run(*NS, CIVINIT, "exec", "--", *command)
        t.equal(r.returncode, want, f"{command} {r.stderr}")
    t.equal(t.run(CIVINIT, "exec", "-e", "3", "sh", "-c", "exit 3").returncode, 0)


def test_usage_errors(t):
    for arguments in (["-z", "true"], ["-s", "NOPE", "true"], ["-k", "5", "true"], ["-e", "300", "true"],
                      ["-r", "1", "true"], ["-p", "x", "true"], ["-s"], []):
        r = t.run(CIVINIT, "exec", *arguments)
        t.equal(r.returncode, 64, str(arguments))
        t.equal(len(r.stderr.strip().splitlines()), 1, r.stderr)


def test_signals_are_passed_on_and_rewritten(t):
    script = 'trap "echo got TERM; exit 5" TERM; trap "echo got QUIT; exit 6" QUIT; echo up; while :; do sleep 0.05; done'
    p = t.start(*NS, CIVINIT, "exec", "--", "sh", "-c", script)
    p.wait_text("^up")
    os.kill(pid1_of(p), signal.SIGTERM)
    t.equal(p.wait(), 5)
    p = t.start(*NS, CIVINIT, "exec", "-s", "QUIT", "--", "sh", "-c", script)
    p.wait_text("^up")
    os.kill(pid1_of(p), signal.SIGTERM)
    t.equal(p.wait(), 6)


def test_deaf_command_is_killed_when_asked(t):
    p = t.start(*NS, CIVINIT, "exec", "-k", "300ms", "--", "sh", "-c", 'trap "" TERM; echo up; while :; do sleep 0.05; done')
    p.wait_text("^up")
    os.kill(pid1_of(p), signal.SIGTERM)
    t.equal(p.wait(), 137)


def test_orphans_are_reaped(t):
    # 300 orphans end; the last one to look sees no zombie.
    script = r"""
i=0; while [ $i -lt 300 ]; do (true &) ; i=$((i+1)); done
until [ "$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l)" = 0 ]; do sleep 0.01; done
echo clean"""
    r = t.run(*NS, CIVINIT, "exec", "--", "sh", "-c", script)
    t.contains(r.stdout, "clean")


def test_subreaper_when_not_process_1(t):
    # An orphan's new parent is civinit, not whoever adopts on this machine.
    orphan = t.write("orphan", "until [ -e go ]; do sleep 0.02; done; grep PPid: /proc/$$/status; : > said\n")
    r = t.run(CIVINIT, "exec", "--", "sh", "-c",
              f"(sh {orphan} &); echo mine $PPID; : > go; until [ -e said ]; do sleep 0.02; done")
    mine = t.match(r.stdout, r"mine (\d+)")[1]
    t.equal(t.match(r.stdout, r"PPid:\s+(\d+)")[1], mine)


def test_group_signals(t):
    # The outer shell is ready for the signal before the inner one says so.
    inner = t.write("inner", 'trap "echo child; exit" TERM; echo up; while :; do sleep 0.05; done\n')
    script = f'trap "wait; exit 0" TERM; sh {inner} & wait'
    p = t.start(*NS, CIVINIT, "exec", "-g", "--", "sh", "-c", script)
    p.wait_text("^up")
    os.kill(pid1_of(p), signal.SIGTERM)
    t.equal(p.wait(), 0)
    t.contains(p.text(), "child")


def test_the_command_has_the_signal_mask_of_a_plain_start(t):
    plain = t.run("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status").stdout
    under = t.run(*NS, CIVINIT, "exec", "--", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status").stdout
    t.equal(under, plain)


def test_as_tini(t):
    tini = link(t, "tini")
    t.equal(t.run(*NS, tini, "-e", "143", "--", "sh", "-c", "exit 143").returncode, 0)
    t.equal(t.run(*NS, tini, "--", "sh", "-c", "exit 9").returncode, 9)
    t.equal(t.run(tini, "--version").stdout[:18], "tini version 0.19.")
    for bad in ([], ["-z"], ["-e", "300", "true"], ["-p", "NOPE", "true"]):
        t.equal(t.run(tini, *bad).returncode, 1, str(bad))
    t.equal(t.run(tini, "/nonexistent").returncode, 127)
    t.contains(t.run(tini, "true").stderr, "subreaper")
    t.equal(t.run(tini, "true", env={"TINI_SUBREAPER": ""}).stderr, "")
    t.contains(t.run(*NS, tini, "-w", "--", "sh", "-c", "(true &); sleep 0.3").stderr, "reaped")
    p = t.start(*NS, tini, "sh", "-c", 'trap "exit 4" USR1; echo up; while :; do sleep 0.05; done')
    p.wait_text("^up")
    os.kill(pid1_of(p), signal.SIGUSR1)
    t.equal(p.wait(), 4)


def test_as_dumb_init(t):
    dumb = link(t, "dumb-init")
    t.equal(t.run(*NS, dumb, "sh", "-c", "exit 9").returncode, 9)
    t.equal(t.run(dumb, "/nonexistent").returncode, 2)
    for bad in ([], ["-z"], ["-r", "99", "true"], ["-r", "15:77", "true"]):
        t.equal(t.run(dumb, *bad).returncode, 1, str(bad))
    t.contains(t.run(dumb, "-V").stderr, "dumb-init v1.2.5")
    # A session of its own by default, not with -c.
    sid = "cut -d' ' -f6 /proc/$$/stat; echo $$"
    out = t.run(*NS, dumb, "sh", "-c", sid).stdout.split()
    t.equal(out[0], out[1], "leads its session")
    out = t.run(*NS, dumb, "-c", "sh", "-c", sid).stdout.split()
    assert out[0] != out[1], out
    script = 'trap "exit 3" INT; trap "exit 4" TERM; echo up; while :; do sleep 0.05; done'
    p = t.start(*NS, dumb, "-r", "15:2", "sh", "-c", script)
    p.wait_text("^up")
    os.kill(pid1_of(p), signal.SIGTERM)
    t.equal(p.wait(), 3)
    # The rest of the session is told when the command has ended.
    p = t.start(dumb, "sh", "-c", f'(trap "echo told > {t.path("told")}; exit" TERM; echo up; while :; do sleep 0.05; done) & sleep 0.3')
    p.wait()
    civitest.wait_for("the rest to be told", lambda: os.path.exists(t.path("told")))


def test_stalled_stderr_does_not_stall(t):
    # Nobody reads stderr, and -w warns of every orphan.
    r, w = os.pipe()
    child = subprocess.Popen([*NS, CIVINIT, "exec", "-w", "--", "sh", "-c",
                              "i=0; while [ $i -lt 4000 ]; do (true &) ; i=$((i+1)); done; exit 8"], stderr=w,
                             stdin=subprocess.DEVNULL)
    t.defer(child.kill)
    t.equal(child.wait(120), 8)
    os.close(r)
    os.close(w)


civitest.main(globals())
