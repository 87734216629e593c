#!/usr/bin/env python3
"""What civinit-jobs tells others, the whole way: hooks and pings and jobs by HTTP, the list, the plan."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest
import mariadb
from civitest import wait_for
from mariadb import shared_end  # noqa: F401
from webserver import Web

JOBS = civitest.program("civinit-jobs")


def config(t, text, name="cron.ini", instance="parish"):
    return t.write(name, f"[container]\ninstance = {instance}\n[jobs]\nstate_dir = {t.path('state')}\n{text}\n")


def once(t, text, *names):
    return t.run(JOBS, "run", "--once", "--config", config(t, text), *names)


def test_pings_and_hooks(t):
    """healthchecks.io's convention at start, success and failure; the outcome as JSON to on_failure after a failure only."""
    web = Web(t)
    r = once(t, f"""ping = {web.url}/ping
on_failure = {web.url}/hook?token=s3cret
[job good]
shell = true
[job bad]
shell = exit 3
[job crash]
shell = kill -SEGV $$$$
""")
    t.equal(r.returncode, 3)
    t.equal([re.sub("^(GET|POST) ", "", p) for p in web.paths()],
            ["/ping/start", "/ping", "/ping/start", "/ping/fail", "/hook?token=s3cret", "/ping/start", "/ping/fail", "/hook?token=s3cret"])
    hooks = [json.loads(body) for _, path, _, body in web.asked if path.startswith("/hook")]
    for got, want in zip(hooks, ({"job": "bad", "outcome": "failure", "exit": 3, "signal": 0, "reason": "exited with 3"},
                                 {"job": "crash", "outcome": "crashed", "exit": 0, "signal": 11, "reason": "killed by signal 11 (SEGV)"})):
        t.equal({k: got[k] for k in want}, want)
        t.equal(got["instance"], "parish")
        t.match(got["run"], "^[0-9a-f]{8}$")
        t.contains(r.stderr, f"run={got['run']} outcome={got['outcome']}")
    t.lacks(r.stdout + r.stderr, "s3cret")


def test_hooks_that_cannot_be_reached(t):
    """They do not change the outcome, and say no secret."""
    r = once(t, f"""ping = http://127.0.0.1:{civitest.free_port()}/s3cret
on_failure = http://127.0.0.1:{civitest.free_port()}/s3cret
[job good]
shell = true
[job bad]
shell = exit 3
""")
    t.equal(r.returncode, 3)
    t.match(r.stderr, "job=good .*outcome=success")
    t.match(r.stderr, "warning: job good: ping: ")
    t.match(r.stderr, "warning: job bad: hook: ")
    t.lacks(r.stderr, "s3cret")


def below(pid):
    """The process and all of its descendants."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        try:
            for thread in os.listdir(f"/proc/{found[-1]}/task"):
                with open(f"/proc/{found[-1]}/task/{thread}/children") as f:
                    todo += [int(x) for x in f.read().split()]
        except FileNotFoundError:
            pass
    return found


def test_a_job_by_url_keeps_its_secrets(t):
    """In no argument list and no environment while it runs, and in no log and no state after it."""
    web = Web(t)
    web.go.clear()
    c = config(t, f"""[job cron]
url = {web.url}/cron.php
method = POST
header = "X-Key: s3cret-header"
body_file = {t.write("body", "name=admin&pass=s3cret-body", 0o600)}
failure_text = ^ERROR
[job other]
url = {web.url}/other?key=s3cret-query
[job down]
url = http://127.0.0.1:{civitest.free_port()}/s3cret-query
""")
    p = t.start(JOBS, "run", "--once", "--config", c)
    wait_for("the request", lambda: web.asked)
    tree = below(p.pid)
    assert len(tree) >= 3, tree
    for pid in tree:
        for part in "cmdline", "environ":
            with open(f"/proc/{pid}/{part}", "rb") as f:
                assert b"s3cret" not in f.read(), f"{pid} {part}"
    web.body = "ERROR: the key s3cret-header is wrong"
    web.go.set()
    t.equal(p.wait(), 1)
    t.equal(web.paths(), ["POST /cron.php", "GET /other?key=s3cret-query"])
    t.equal(web.asked[0][3], "name=admin&pass=s3cret-body")
    t.match(p.text(), "job=cron .*outcome=failure .*HTTP status 200, but the answer says: ERROR")
    t.match(p.text(), "job=other .*outcome=success")
    t.match(p.text(), 'job=down .*outcome=failure exit=69 .*reason="[^"]*refused')
    for secret in "s3cret-body", "s3cret-query":
        t.lacks(p.text(), secret)
        for name in os.listdir(t.path("state")):
            with open(t.path("state", name)) as f:
                t.lacks(f.read(), secret)


def test_a_job_by_url_times_out(t):
    web = Web(t)
    web.go.clear()
    r = once(t, f"[job slow]\nurl = {web.url}/slow\ntimeout = 1s\n[job next]\nshell = echo next")
    t.equal(r.returncode, 124)
    t.match(r.stderr, 'job=slow .*outcome=timeout .*reason="took longer than 1')
    t.contains(r.stdout, "next")


def test_list_on_a_database_without_civicrm(t):
    """It says what is not there, and goes on; also where no database answers."""
    server = mariadb.Server.shared()
    password = server.account("empty", "s3cret", "empty")
    c = config(t, f"[database]\nsocket = {server.socket}\nuser = empty\npassword_file = {password}\nnames = empty\n"
                  f"[job tidy]\nschedule = @daily\nneeds = database\nshell = echo ran\n")
    r = t.run(JOBS, "list", "--json", "--config", c)
    t.equal(r.returncode, 0, r.stderr)
    got = json.loads(r.stdout)
    t.equal([j["name"] for j in got["jobs"]], ["tidy"])
    for table in "civicrm_job", "civicrm_job_log", "civicrm_mailing_job":
        t.contains(got["missing"], table)
    t.equal((got["civicrm"], got["mail"].get("pending")), ([], None))
    t.equal(t.run(JOBS, "list", "--config", c).returncode, 0)
    with open(c) as f:
        gone = t.write("gone.ini", f.read().replace(server.socket, t.path("nobody")))
    r = t.run(JOBS, "list", "--json", "--config", gone)
    t.equal(r.returncode, 0, r.stderr)
    got = json.loads(r.stdout)
    t.equal([j["name"] for j in got["jobs"]], ["tidy"])
    t.contains(got["backlog_error"], "nobody")


def test_instances_have_phases_of_their_own(t):
    """With splay: the same for an instance each time, within it, never before the tick; another one for another instance."""
    text = "splay = 4m\n[job a]\nschedule = */5 * * * *\ncommand = true\n"
    phases = {}
    for instance in "parish", "deanery", "diocese", "synod":
        c = config(t, text, f"{instance}.ini", instance)
        ask = [JOBS, "next", "--config", c, "--from", "2026-03-01T00:00:00Z", "--until", "2026-03-01T01:00:00Z"]
        times = [line.split()[0] for line in t.run(*ask).stdout.splitlines()]
        seconds = [int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in (re.search(r"T(\d+):(\d+):([\d.]+)", x).groups() for x in times)]
        late = {round(s % 300, 3) for s in seconds}
        t.equal((len(seconds), len(late)), (12, 1), f"{instance}: {times}")
        phases[instance] = late.pop()
        assert 0 <= phases[instance] < 240, phases
        t.equal([line.split()[0] for line in t.run(*ask).stdout.splitlines()], times, "asked again")
    assert len(set(phases.values())) > 1, phases


civitest.main(globals())
