#!/usr/bin/env python3
"""civinit-jobs: running jobs, by hand and at their times, without a database."""
import json
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest
from civitest import wait_for

JOBS = civitest.program("civinit-jobs")


def config(t, text, extra=""):
    return t.write("cron.ini", f"[container]\ninstance = parish\n{extra}\n[jobs]\nstate_dir = {t.path('state')}\n{text}\n")


def once(t, text, *names, extra="", **options):
    return t.run(JOBS, "run", "--once", "--config", config(t, text, extra), *names, **options)


def start(t, text, extra="", **options):
    return t.start(JOBS, "run", "--config", config(t, text, extra), **options)


def state(t):
    """jobs.json, by job's name."""
    with open(t.path("state/jobs.json")) as f:
        return {j["name"]: j for j in json.load(f)["jobs"]}


def runs(t, name, outcome):
    try:
        return state(t)[name]["runs"][outcome]
    except FileNotFoundError:
        return 0


def gone(pid_file):
    with open(pid_file) as f:
        return not civitest.alive(int(f.read()))


def test_once_runs_all_in_order_and_ends_with_the_worst_code(t):
    r = once(t, """
[job first]
shell = echo one
[job second]
command = sh -c 'echo "$1" >&2; exit 7' name "two words"
[job off]
enabled = no
shell = echo never
[job third]
shell = echo three; exit 1
""")
    t.equal(r.returncode, 7)
    t.match(r.stdout, r"^first\[[0-9a-f]{8}\]: one$")
    t.match(r.stdout, r"^third\[[0-9a-f]{8}\]: three$")
    t.match(r.stderr, r"^second\[[0-9a-f]{8}\]: two words$")
    t.lacks(r.stdout, "never")
    t.match(r.stderr, r'^civinit-jobs: info: job=first run=[0-9a-f]{8} outcome=success exit=0 ')
    t.match(r.stderr, r'^civinit-jobs: error: job=second run=[0-9a-f]{8} outcome=failure exit=7 .* reason="exited with 7"$')
    got = state(t)
    t.equal(got["second"]["last"]["exit"], 7)
    t.equal(got["first"]["runs"]["success"], 1)
    t.equal(got["off"]["last"], None)
    t.equal(t.run(JOBS, "--config", t.path("cron.ini"), "run", "--once", "first").returncode, 0)
    t.equal(state(t)["first"]["runs"]["success"], 2, "remembered")
    t.equal(t.run(JOBS, "--config", t.path("cron.ini"), "run-job", "off").stdout.count("never"), 1)
    t.equal(t.run(JOBS, "--config", t.path("cron.ini"), "run-job", "nix").returncode, 64)


def test_signals_and_commands_that_are_not_there(t):
    r = once(t, """
[job segv]
shell = kill -SEGV $$$$
[job missing]
command = /nowhere/program
[job cwd]
cwd = /nowhere
command = true
""", "segv")
    t.equal(r.returncode, 128 + signal.SIGSEGV)
    t.equal(state(t)["segv"]["last"]["outcome"], "crashed")
    t.equal(state(t)["segv"]["last"]["signal"], signal.SIGSEGV)
    for name, part in ("missing", "/nowhere/program"), ("cwd", "cwd /nowhere"):
        r = t.run(JOBS, "run-job", name, "--config", t.path("cron.ini"))
        assert r.returncode != 0
        t.contains(r.stderr, "outcome=failure")
        t.contains(r.stderr, part)


def test_user_home_and_groups_without_sudo(t):
    if os.geteuid() != 0:
        raise civitest.Skip("needs root to change the user")
    r = once(t, """
[job who]
user = nobody
group = daemon
shell = id -u; id -g; id -G; echo "$HOME $USER $LOGNAME"
""")
    t.equal(r.returncode, 0)
    got = [line.split(": ", 1)[1] for line in r.stdout.splitlines()]
    import grp
    import pwd
    nobody, daemon = pwd.getpwnam("nobody"), grp.getgrnam("daemon")
    t.equal(got, [str(nobody.pw_uid), str(daemon.gr_gid), str(daemon.gr_gid), f"{nobody.pw_dir} nobody nobody"])
    r = once(t, "[job who]\nuser = nosuchuser\nshell = id")
    t.equal(r.returncode, 78)
    t.contains(r.stderr, 'the user "nosuchuser" is not in /etc/passwd')


def test_environment_and_folder(t):
    t.write("env", "# comment\nexport A=from file\nB='quoted # value'\n\nC=\"x=y\"\n")
    text = f"""
[job show]
env_file = {t.path('env')}
env.D = given
env.A = nearer
cwd = {t.dir}
shell = echo "$A|$B|$C|$D|$CIVINIT_JOB|$(pwd)"; test -n "$CIVINIT_RUN"
"""
    r = once(t, text)
    t.equal(r.returncode, 0)
    t.contains(r.stdout, f"nearer|quoted # value|x=y|given|show|{t.dir}\n")
    t.write("env", "A=fine\nsecret without a name\n")
    r = once(t, text)
    t.equal(r.returncode, 78)
    t.contains(r.stderr, "env:2: not NAME=value")
    t.lacks(r.stderr, "secret")


def test_a_timeout_ends_the_whole_tree(t):
    # One that left the session, one that ignores SIGTERM, one that lost its parent.
    t.write("tree.sh", """
setsid sh -c 'echo $$ >away.pid; exec sleep 1000' &
sh -c 'trap "" TERM; echo $$ >deaf.pid; while :; do sleep 1000; done' &
(setsid sh -c 'echo $$ >orphan.pid; exec sleep 1000' &)
while ! [ -s away.pid ] || ! [ -s deaf.pid ] || ! [ -s orphan.pid ]; do sleep 0.01; done
touch all
sleep 1000
""")
    for seconds in 2, 10, 50:  # a slow machine may not have come that far
        r = once(t, f"[job tree]\ncwd = {t.dir}\ntimeout = {seconds}s\ncommand = sh tree.sh", seconds=100)
        t.equal(r.returncode, 124)
        t.equal(state(t)["tree"]["last"]["outcome"], "timeout")
        if os.path.exists(t.path("all")):
            break
    for name in "away", "deaf", "orphan":
        assert gone(t.path(name + ".pid")), f"{name} is alive"


def test_what_a_command_leaves_behind_is_ended(t):
    r = once(t, f"""
[job careless]
cwd = {t.dir}
shell = setsid sh -c 'echo $$$$ >left.pid; exec sleep 1000' >/dev/null 2>&1 & while ! [ -s left.pid ]; do sleep 0.01; done; echo done
""")
    t.equal(r.returncode, 0)
    t.contains(r.stderr, "job careless: 1 process was left behind; ended")
    assert gone(t.path("left.pid"))


def test_lines_of_several_jobs_do_not_mix(t):
    # Each job writes in odd pieces: a line is written whole all the same.
    t.write("talk.py", """
import os, sys
line = sys.argv[1] * int(sys.argv[2])
data = (line + "\\n").encode() * 200
for i in range(0, len(data), 777):
    os.write(1, data[i:i + 777])
os.write(1, b"end without newline")
""")
    sizes = {"a": 10, "b": 300, "c": 3000, "d": 9000}
    text = "".join(f"[job {n}]\nschedule = @start\ncommand = {sys.executable} {t.path('talk.py')} {n} {k}\n" for n, k in sizes.items())
    p = start(t, text)
    wait_for("all to end", lambda: all(runs(t, n, "success") for n in sizes), 120)
    p.signal(signal.SIGTERM)
    p.wait()
    got = {n: [] for n in sizes}
    for line in p.text().splitlines():
        m = re.fullmatch(r"([abcd])\[[0-9a-f]{8}\]: (.*)", line)
        if not m:
            assert line.startswith("civinit-jobs: "), line[:200]
            continue
        assert len(line) < 4096
        got[m[1]].append(m[2])
    for n, k in sizes.items():
        t.equal(got[n].pop(), "end without newline")
        t.equal("".join(got[n]), n * k * 200, n)
        if k < 4000:
            t.equal(len(got[n]), 200, n)


def test_a_reader_that_stalls_does_not_stop_the_timeout(t):
    read, write = os.pipe()
    t.defer(os.close, read)
    p = start(t, "[job flood]\nschedule = @start\ntimeout = 1s\nshell = yes\n", stdout=write)
    os.close(write)
    wait_for("the timeout", lambda: runs(t, "flood", "timeout"))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)


def test_overlap(t):
    # Every job runs until its file is there.
    body = "shell = setsid sh -c 'echo $$$$ >>{0}.pids; exec sleep 1000' & echo run >>{0}.log; while ! [ -e {0}.go ]; do sleep 0.02; done\n"
    text = "".join(f"[job {n}]\nschedule = @every 1s\noverlap = {n}\ncwd = {t.dir}\n" + body.format(n)
                   for n in ("skip", "queue", "kill"))
    p = start(t, text)
    wait_for("a skipped run", lambda: runs(t, "skip", "skipped"))
    wait_for("a killed run", lambda: runs(t, "kill", "failure") >= 2)
    wait_for("one that left the session", lambda: os.path.exists(t.path("kill.pids")) and os.path.getsize(t.path("kill.pids")))
    with open(t.path("kill.pids")) as f:
        away = int(f.readline())
    wait_for("its end with its run", lambda: not civitest.alive(away))
    wait_for("a refused second in the queue", lambda: runs(t, "queue", "skipped"))
    t.equal(runs(t, "skip", "failure") + runs(t, "queue", "failure"), 0)
    for n in "skip", "queue":
        with open(t.path(n + ".log")) as f:
            t.equal(f.read(), "run\n", n)
    for n in "skip", "queue", "kill":
        t.write(n + ".go", "")
    wait_for("the queued run", lambda: runs(t, "queue", "success") >= 2)
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)
    t.contains(p.text(), "was still running when it was due again; ended")


def test_retry_with_backoff(t):
    r = once(t, f"""
[job flaky]
cwd = {t.dir}
retry = 3
backoff = 50ms
shell = echo x >>tries; test $(wc -l <tries) = 3
""")
    t.equal(r.returncode, 0)
    t.contains(r.stderr, "attempt=1 outcome=failure")
    t.contains(r.stderr, "attempt=2 outcome=failure")
    t.match(r.stderr, r"outcome=success .*attempts=3")
    r = once(t, "[job bad]\nretry = 2\nbackoff = 10ms\nshell = exit 4")
    t.equal(r.returncode, 4)
    t.match(r.stderr, r"outcome=failure exit=4 .*attempts=3")


def test_drain_waits_for_the_job_and_begins_nothing_new(t):
    p = start(t, f"""
[job long]
schedule = @start
cwd = {t.dir}
shell = touch begun; while ! [ -e go ]; do sleep 0.02; done; echo finished
[job often]
schedule = @every 1s
cwd = {t.dir}
shell = echo often
""")
    wait_for("the job", lambda: os.path.exists(t.path("begun")))
    p.signal(signal.SIGTERM)
    p.wait_text("no job begins any more")
    before = p.text().count("]: often")
    t.write("go", "")
    t.equal(p.wait(), 0)
    t.contains(p.text(), "]: finished")
    t.equal(state(t)["long"]["runs"]["success"], 1)
    assert p.text().count("]: often") <= before + 1


def test_at_the_end_of_the_grace_period_the_tree_is_killed(t):
    p = start(t, f"""
[job deaf]
schedule = @start
cwd = {t.dir}
shell = trap '' TERM; setsid sh -c 'trap "" TERM; echo $$$$ >deaf.pid; sleep 1000 & wait; sleep 1000' & while :; do sleep 1000; done
""", extra="grace = 2s")
    wait_for("the job", lambda: os.path.exists(t.path("deaf.pid")) and os.path.getsize(t.path("deaf.pid")))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)
    t.equal(state(t)["deaf"]["last"]["outcome"], "crashed")
    t.contains(p.text(), "killed at the end of the grace period")
    assert gone(t.path("deaf.pid"))


def test_a_runner_that_is_killed_is_a_crash_and_leaves_nothing(t):
    p = start(t, f"""
[job victim]
schedule = @start
cwd = {t.dir}
shell = echo $PPID >runner; setsid sh -c 'echo $$$$ >child.pid; exec sleep 1000' & wait
""")
    wait_for("the child", lambda: os.path.exists(t.path("child.pid")) and os.path.getsize(t.path("child.pid")))
    with open(t.path("runner")) as f:
        os.kill(int(f.read()), signal.SIGKILL)
    wait_for("the crash", lambda: runs(t, "victim", "crashed"))
    t.equal(state(t)["victim"]["last"]["reason"], "its runner was killed")
    wait_for("the child's end", lambda: gone(t.path("child.pid")))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)


def test_when_the_loop_is_killed_its_runs_end_within_the_grace_period(t):
    p = start(t, f"""
[job orphan]
schedule = @start
cwd = {t.dir}
shell = echo $$$$ >job.pid; exec sleep 1000
""", extra="grace = 1s")
    wait_for("the job", lambda: os.path.exists(t.path("job.pid")) and os.path.getsize(t.path("job.pid")))
    p.signal(signal.SIGKILL)
    p.wait()
    wait_for("the job's end", lambda: gone(t.path("job.pid")))


def test_catch_up(t):
    text = """
[job missed]
schedule = 0 0 1 1 *
catch_up = once
shell = echo caught up
[job dropped]
schedule = 0 0 1 1 *
shell = echo wrong
[job new]
schedule = 0 0 1 1 *
catch_up = once
shell = echo wrong
[job started]
schedule = @start
shell = true
"""
    config(t, text)
    t.write("state/jobs.state", "job name=missed tick=1262304000000\njob name=dropped tick=1262304000000\n"
                                "job name=vanished tick=1\nrubbish\njob\njob name\n")
    p = t.start(JOBS, "run", "--config", t.path("cron.ini"))
    wait_for("the missed job", lambda: runs(t, "missed", "success") and runs(t, "started", "success"))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)
    t.lacks(p.text(), "wrong")
    p = t.start(JOBS, "run", "--config", t.path("cron.ini"))
    wait_for("the next start", lambda: runs(t, "started", "success") == 2)
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)
    t.equal(state(t)["missed"]["runs"]["success"], 1, "caught up once only")


def test_memory_and_cpu_of_a_run(t):
    t.write("eat.py", "b = bytearray(60 << 20)\nimport time\nwhile time.process_time() < 0.3: pass\n")
    r = once(t, f"[job eat]\ncommand = {sys.executable} {t.path('eat.py')}")
    t.equal(r.returncode, 0)
    last = state(t)["eat"]["last"]
    assert last["rss_kb"] > 60 << 10, last
    assert last["cpu_ms"] >= 290, last


def test_on_failure_gets_the_outcome(t):
    t.write("hook.sh", f"cat >{t.path('got.json')}; echo hooked; exit 1\n")
    r = once(t, f"""
[job bad]
on_failure = sh {t.path('hook.sh')}
shell = exit 9
[job good]
on_failure = sh -c 'exit 1'
shell = true
""")
    t.equal(r.returncode, 9)
    with open(t.path("got.json")) as f:
        got = json.load(f)
    for k, v in dict(instance="parish", job="bad", outcome="failure", exit=9, reason="exited with 9").items():
        t.equal(got[k], v, k)
    t.match(r.stdout, r"^bad\[\w+\]: hooked$")
    t.contains(r.stderr, "on_failure itself failed")


def test_nothing_wakes_it_between_due_times_and_it_is_small(t):
    text = "".join(f"[job j{i}]\nschedule = {i % 60} {i % 24} 1 1 *\ntimezone = Europe/Paris\ncommand = true\n" for i in range(1000))
    p = start(t, text)

    def look(key):
        with open(f"/proc/{p.pid}/status") as f:
            return int(re.search(rf"^{key}:\s+(\d+)", f.read(), re.M)[1])
    wait_for("the state", lambda: os.path.exists(t.path("state/jobs.json")))
    wait_for("sleep", lambda: open(f"/proc/{p.pid}/wchan").read() != "0" or open(f"/proc/{p.pid}/stat").read().split(") ")[1][0] == "S")
    before = look("voluntary_ctxt_switches")
    time.sleep(2)  # a span in which nothing is to happen
    t.equal(look("voluntary_ctxt_switches"), before, "wake-ups")
    if not civitest.SAN:
        assert look("VmRSS") < 8192, f"{look('VmRSS')} kB"
        print(f"1,000 jobs idle: {look('VmRSS')} kB")
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)


def test_a_state_folder_that_cannot_be_written(t):
    t.write("file", "")
    c = t.write("c.ini", f"[jobs]\nstate_dir = {t.path('file/x')}\n[job a]\nshell = echo ran\n")
    r = t.run(JOBS, "run", "--once", "--config", c)
    t.equal(r.returncode, 0)
    t.contains(r.stdout, "ran")
    t.equal(r.stderr.count("warning"), 1)


def test_what_a_command_says(t):
    """failure_text: a line that matches is a failure, whatever the exit code. The words of drush core:cron (12.5.3)."""
    with open(os.path.join(civitest.ROOT, "config/cron.ini")) as f:
        text = re.search(r"failure_text = \$\{DRUPAL_FAILURE:-(.*)\}", f.read())[1]

    def run(script, more=""):
        r = t.run(JOBS, "run", "--once", "--config", config(t, f"[job a]\nfailure_text = {text}\n{more}shell = {script}"))
        return r.returncode, *re.search(r'run=\w+ outcome=(\w+) .*?(?: reason="(.*)")?$', r.stderr, re.M).groups()

    t.equal(run("echo ' [notice] Cron run completed.'; echo ' [warning] odd [error]' >&2"), (0, "success", None))
    t.equal(run("echo one; echo ' [error]  Exception: thrown on purpose in x_cron() (line 4).' >&2; echo ' [error]  more' >&2"),
            (1, "failure", "it said: [error]  Exception: thrown on purpose in x_cron() (line 4)."))
    t.equal(run("echo ' [warning] Attempting to re-run cron while it is already running.'"),
            (1, "failure", "it said: [warning] Attempting to re-run cron while it is already running."))
    t.equal(run("printf ' [error]  without an end'"), (1, "failure", "it said: [error]  without an end"))
    t.equal(run("echo ' [error]  x'; exit 3"), (3, "failure", "exited with 3: [error]  x"))
    # However late it comes.
    t.equal(run("yes 'a line of no interest' | head -n 20000; echo ' [error]  late'"), (1, "failure", "it said: [error]  late"))
    t.equal(run("test -e again || { touch again; echo ' [error]  once'; }", f"cwd = {t.dir}\nretry = 1\nbackoff = 1ms\n"), (0, "success", None))
    r = t.run(JOBS, "check", "--config", config(t, "[job a]\nfailure_text = a(b\ncommand = true"))
    t.equal(r.returncode, 78)
    t.contains(r.stderr, "[job a] failure_text: is no extended regular expression")
    t.equal(t.run(JOBS, "run", "--once", "--config", config(t, "[job a]\nfailure_text =\nshell = echo x")).returncode, 0)


def test_check_names_every_problem(t):
    c = config(t, """
[job a]
schedule = 61 * * * *
command = true
[job b]
schedule = * * * *
shell = x
url = http://localhost/
[job c]
timezone = Europe/Atlantis
needs = smpt
isolate = yes
command = true
[job d]
verdict = civicrm
[job e]
schedule = @hourly
""")
    r = t.run(JOBS, "check", "--config", c)
    t.equal(r.returncode, 78)
    for part in ('[job a] schedule: minute "61": out of the range 0-59', "4 fields", "has several things to run",
                 "time zone Europe/Atlantis is not known", '"smpt" is not one of', "needs verdict = civicrm",
                 "needs a [database] section", "has nothing to run"):
        t.contains(r.stderr, part)
    t.equal(t.run(JOBS, "run", "--once", "--config", c).returncode, 78)
    t.equal(t.run(JOBS, "check", "--config", t.path("nix.ini")).returncode, 78)


def test_next_at_both_changes_of_the_clock(t):
    c = config(t, """
[job fixed]
schedule = 30 2 * * *
timezone = Europe/Paris
command = true
[job hourly]
schedule = 15 * * * *
timezone = Europe/Paris
command = true
[job off]
schedule = * * * * *
enabled = no
command = true
""")
    def due(*args):
        r = t.run(JOBS, "next", "--config", c, *args)
        t.equal(r.returncode, 0, r.stderr)
        return r.stdout.splitlines()
    t.equal(due("--from", "2026-03-29T01:00+01:00", "--until", "2026-03-29T04:00+02:00"),
            ["2026-03-29T01:15:00+01:00 hourly", "2026-03-29T03:00:00+02:00 fixed", "2026-03-29T03:15:00+02:00 hourly"])
    t.equal(due("--from", "2026-10-25T00:00:00Z", "--until", "+2h"),
            ["2026-10-25T02:15:00+02:00 hourly", "2026-10-25T02:30:00+02:00 fixed", "2026-10-25T02:15:00+01:00 hourly"])
    t.equal(len(due("--from", "2026-05-01", "--until", "2026-05-08", "fixed")), 7)
    t.equal(t.run(JOBS, "next", "--config", c, "--from", "yesterday").returncode, 64)
    t.equal(t.run(JOBS, "next", "--config", c, "nix").returncode, 64)


def test_list_and_the_command_line(t):
    c = config(t, "[job a]\nschedule = @hourly\nshell = exit 2\n")
    t.match(t.run(JOBS, "list", "--config", c).stdout, r"^a +@hourly +\d{4}-.*never ran$")
    t.run(JOBS, "run", "--once", env={"CIVINIT_CONFIG": c})
    t.match(t.run(JOBS, "list", env={"CIVINIT_CONFIG": c}).stdout, r"^a +@hourly .*failure .*: exited with 2$")
    got = json.loads(t.run(JOBS, "list", "--json", "--config", c).stdout)
    t.equal(got["instance"], "parish")
    t.equal(got["hold"], None)
    t.equal(got["jobs"][0]["last"]["exit"], 2)
    assert got["jobs"][0]["next"] > got["updated"]
    for args, code in ((["--help"], 0), (["--version"], 0), ([], 64), (["fly"], 64), (["list", "--xml"], 64), (["run", "--twice"], 64)):
        t.equal(t.run(JOBS, *args).returncode, code, args)


def test_as_the_main_service_of_a_container(t):
    """civinit cron --once: the container's code is the worst job's; civinit cron: SIGTERM drains."""
    text = f"""
[service jobs]
command = {JOBS} --config {t.path("cron.ini")} run ${{CIVINIT_ONCE:+--once}}
stop_timeout = grace
[job good]
schedule = @start
cwd = {t.dir}
shell = touch begun; while ! [ -e go ]; do sleep 0.02; done; echo good ended
[job bad]
shell = exit 5
"""
    c = config(t, text, extra=f"main = jobs\ngrace = 60s\nrun_dir = {t.path('run')}")
    civinit = [civitest.program("civinit"), "cron", "--config", c]
    t.write("go", "")
    p = t.start(*civinit, "--once")
    t.equal(p.wait(), 5, p.text())
    t.contains(p.text(), "good ended")
    os.unlink(t.path("go"))
    os.unlink(t.path("begun"))
    p = t.start(*civinit)
    wait_for("the job", lambda: os.path.exists(t.path("begun")))
    p.signal(signal.SIGTERM)
    p.wait_text("no job begins any more; 1 running")
    t.write("go", "")
    t.equal(p.wait(), 0, p.text())
    t.equal(state(t)["good"]["runs"]["success"], 2)


civitest.main(globals())
