#!/usr/bin/env python3
"""`civinit exec`, alone and as tini and dumb-init, as real process 1 of a PID namespace."""
import os
import pty
import re
import shutil
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


SH = ["sh", "-c"]
BESIDE = {
    "tini": [[], ["-h"], ["--version", "x"], ["-z"], ["-e"], ["-p"], ["true"], ["--", "true"], ["--", "/nonexistent"],
             ["--", "nowhere-in-path"], ["--", "/etc/passwd"], ["--", "/etc/passwd/x"], ["--", "./script"], ["--", "./folder"],
             ["-e", "143", "--", *SH, "exit 143"], ["-e", "256", "true"], ["-e", "-1", "true"], ["-e", "x", "true"],
             ["-e", "1", "-e", "2", "--", *SH, "exit 2"], ["-p", "SIGTERM", "true"], ["-p", "TERM", "true"], ["-p", "15", "true"],
             ["-s", "true"], ["-g", "--", *SH, "exit 3"], ["--", *SH, "kill -9 $$"], ["-e", "137", "--", *SH, "kill -9 $$"],
             ["--", *SH, "echo $(ps -o pid=,ppid=,pgid= -p $$)"], ["--", "grep", "Sig[^Q]", "/proc/self/status"],
             ["sh", "--", "-c", "exit 3"], ["echo", "a", "--", "b", "--", "c"], ["--", "echo", "a", "--", "b"]],
    "dumb-init": [[], ["-h"], ["-V"], ["-z"], ["-r"], ["true"], ["--", "true"], ["/nonexistent"], ["/etc/passwd"], ["./script"],
                  [*SH, "exit 9"], [*SH, "kill -9 $$"], ["-r", "15:2", "true"], ["--rewrite=15:2", "true"], ["-r", "99:2", "true"],
                  ["-r", "2:99", "true"], ["-r", "0:2", "true"], ["-r", "31:31", "true"], ["-r", "32:1", "true"],
                  ["-r", "15:-1", "true"], ["-r", "15", "true"], ["echo", "a", "--", "b"], ["grep", "Sig[^Q]", "/proc/self/status"],
                  *[[*o, *SH, "echo $(ps -o pid=,ppid=,pgid=,sid= -p $$)"] for o in ([], ["-c"], ["--single-child"])]],
}


def test_beside_the_real_ones(t):
    """The same code and the same output as Debian's tini and dumb-init, for every option and mistake."""
    t.write("script", "echo no first line\n", 0o755)
    os.mkdir(t.path("folder"))
    for name, cases in BESIDE.items():
        real = shutil.which(name)
        if not real:
            raise civitest.Skip(f"{name} is not installed")
        ours = link(t, name)
        for arguments in cases:
            want, got = (t.run(*NS, program, *arguments) for program in (real, ours))
            t.equal(got.returncode, want.returncode, f"{name} {arguments}: {got.stderr}")
            if arguments not in (["-h"], ["--version", "x"]):
                t.equal(got.stdout, want.stdout, f"{name} {arguments}")
    for variable in ("TINI_VERBOSITY", "TINI_SUBREAPER", "TINI_KILL_PROCESS_GROUP"):
        for value in ("", "0", "1", "2", "9", "x"):
            want, got = (t.run(program, "true", env={variable: value}).stderr for program in (shutil.which("tini"), t.path("tini")))
            t.equal(bool(got), bool(want) or (value in ("2", "9") and variable == "TINI_VERBOSITY"), f"{variable}={value}: {got!r}, {want!r}")
    for setsid in ("0", "1", "x"):
        want, got = (t.run(*NS, program, *SH, "echo $(ps -o pid=,ppid=,pgid=,sid= -p $$)", env={"DUMB_INIT_SETSID": setsid}).stdout
                     for program in (shutil.which("dumb-init"), t.path("dumb-init")))
        t.equal(got, want, f"DUMB_INIT_SETSID={setsid}")


# Neither those that stop, nor, of sanitizers, those that they take themselves.
HEARABLE = [n for n in (*range(1, 32), 34, 64) if n not in (9, 17, 18, 19, 20, 21, 22, *((4, 5, 6, 7, 8, 11, 31) if civitest.SAN else ()))]
HEARS = f"""
import os, signal, time
for n in {HEARABLE}:
    signal.signal(n, lambda n, f: os.write(1, f"{{name}} {{n}}\\n".encode()))
name = "child" if os.fork() == 0 else "parent"
os.write(1, f"{{name}} up\\n".encode())
while True:  # no pause(): a signal just before it would wait for the next one
    time.sleep(0.05)
"""


def heard(t, program, *options):
    """{(who, number)}: which signals reach the command and its child, of all that process 1 gets."""
    p = t.start(*NS, program, *options, "--", sys.executable, "-c", HEARS)
    p.wait_text("^child up")
    p.wait_text("^parent up")
    pid = pid1_of(p)
    for n in HEARABLE:
        os.kill(pid, n)
    # Both hear this one in every dialect, one after the other: what was to come has come before.
    group = "-g" in options or ("dumb-init" in program and "-c" not in options)
    end = {"parent 64"} | ({"child 64"} if group else set())
    civitest.wait_for("the last signal", lambda: end <= set(p.text().splitlines()))
    p.end()
    return {line for line in p.text().splitlines() if line[-1].isdigit()}


def test_signals_beside_the_real_ones(t):
    for name, options in (("tini", []), ("tini", ["-g"]), ("dumb-init", []), ("dumb-init", ["-c"]), ("dumb-init", ["-r", "15:2", "-r", "1:0"])):
        real = shutil.which(name)
        if not real:
            raise civitest.Skip(f"{name} is not installed")
        ours = t.path(name)
        if not os.path.exists(ours):
            link(t, name)
        t.equal(heard(t, ours, *options), heard(t, real, *options), f"{name} {options}")


def test_dumb_init_hands_the_terminal_on(t):
    """It leads the terminal's session; giving that up is no reason for a SIGHUP to the command."""
    dumb = link(t, "dumb-init")
    pid, tty = pty.fork()
    if pid == 0:
        os.execv(dumb, [dumb, "sh", "-c", "echo tty $(ps -o pid=,tpgid= -p $$); read x; echo got $x"])
    t.defer(os.close, tty)
    said = b""
    while not re.search(rb"tty.*\n", said):
        said += os.read(tty, 4096)
    os.write(tty, b"word\n")
    while b"got word" not in said:
        said += os.read(tty, 4096)
    mine, foreground = t.match(said.decode(), r"tty (\d+) (\d+)").groups()
    t.equal(foreground, mine, "the command is in front of the terminal")
    t.equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)


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
