#!/usr/bin/env python3
"""civinit-jobs around CiviCRM's jobs: what it asks of its helper, in which order, and what it makes
of the answers. The helper is a script here that notes what it was asked and answers as each test
wants; the real one has tests of its own and runs with this program in test_jobs_real.py."""
import json
import os
import re
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest
from civitest import wait_for

HELPER = """#!/bin/sh
here=$(dirname "$0")
shift 2
echo "$*" >>"$here/calls"
if [ -e "$here/answer.$1" ]; then . "$here/answer.$1"; exit; fi
case $1 in
lock) echo held; cat >/dev/null; echo "end of lock" >>"$here/calls" ;;
precheck) echo ok ;;
begin) echo mark 41 ;;
verdict) echo '{"run":"success","reason":""}' ;;
backlog) echo '{"civicrm":[],"mail":{"pending":3}}' ;;
esac
"""
CIVICRM = "verdict = civicrm\n"


class Rig:
    def __init__(self, t):
        self.t = t
        os.makedirs(t.path("state"))
        os.makedirs(t.path("bin"))
        shutil.copy(civitest.program("civinit-jobs"), t.path("bin/civinit-jobs"))
        t.write("bin/civinit-jobs-helper", HELPER, 0o755)
        self.jobs = t.path("bin/civinit-jobs")

    def answer(self, command, script):
        """What the helper does from now on when it is asked `command` (None: as usual)."""
        path = self.t.path("bin/answer." + command)
        if script is None:
            os.unlink(path)
        else:
            self.t.write("bin/new", script)
            os.rename(self.t.path("bin/new"), path)

    def calls(self):
        try:
            with open(self.t.path("bin/calls")) as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def called(self, *parts):
        return any(c.startswith(" ".join(parts)) for c in self.calls())

    def config(self, text, extra="", container=""):
        return self.t.write("cron.ini", f"[container]\ninstance = parish\n{container}\n[database]\nhost = 127.0.0.1\n"
                                        f"[jobs]\nstate_dir = {self.t.path('state')}\n{extra}\n{text}\n")

    def once(self, text, *names, extra=""):
        return self.t.run(self.jobs, "run", "--once", "--config", self.config(text, extra), *names)

    def start(self, text, extra="", container=""):
        return self.t.start(self.jobs, "run", "--config", self.config(text, extra, container))

    def state(self):
        with open(self.t.path("state/jobs.json")) as f:
            return json.load(f)

    def job(self, name):
        return next(j for j in self.state()["jobs"] if j["name"] == name)

    def runs(self, name, outcome):
        try:
            return self.job(name)["runs"][outcome]
        except FileNotFoundError:
            return 0


def test_the_verdict_decides_although_the_exit_code_is_0(t):
    rig = Rig(t)
    rig.answer("verdict", """
        while [ "$1" != --output ]; do shift; done
        cp "$2" "$here/output"
        echo '{"job":"Send \\"it\\"","id":1,"outcome":"success","seconds":2,"message":""}'
        echo '{"job":"R\\u00e9duire","id":2,"outcome":"failure","seconds":0,"message":"no such table"}'
        echo '{"run":"failure","reason":"R\\u00e9duire: no such table"}'
        exit 1""")
    r = rig.once("[job civi]\n" + CIVICRM + "shell = echo said; echo loud >&2")
    t.equal(r.returncode, 1)
    asked = rig.calls()
    t.equal([c.split()[0] for c in asked], ["precheck", "recover", "begin", "verdict", "backlog"])
    t.match(asked[3], r"^verdict --mark 41 --exit 0 --signal 0 --output /proc/\d+/fd/\d+$")
    with open(t.path("bin/output")) as f:
        t.equal(sorted(f.read().split()), ["loud", "said"])
    t.match(r.stderr, r'^civinit-jobs: info: job=civi run=\w+ civicrm_job="Send \\"it\\"" outcome=success seconds=2$')
    t.match(r.stderr, r'^civinit-jobs: error: job=civi run=\w+ civicrm_job="Réduire" outcome=failure seconds=0 message="no such table"$')
    t.match(r.stderr, r'^civinit-jobs: error: job=civi .*outcome=failure exit=0 .*reason="Réduire: no such table"$')
    t.equal(rig.state()["mail"], {"pending": 3})
    t.equal(rig.job("civi")["last"]["outcome"], "failure")


def test_every_verdict_becomes_an_outcome(t):
    rig = Rig(t)
    for word, script, code in (("success", "true", 0), ("crashed", "exit 255", 255), ("crashed", "kill -SEGV $$$$", 139),
                               ("incomplete", "true", 1), ("broken", "true", 1)):
        rig.answer("verdict", f"""echo '{{"run":"{word}","reason":"because"}}'; exit 1""")
        r = rig.once(f"[job civi]\n{CIVICRM}shell = {script}")
        t.equal(r.returncode, code, word)
        t.contains(r.stderr, f"outcome={word}")
    rig.answer("verdict", "echo 'civinit-jobs-helper: error: the server has gone away' >&2; exit 69")
    r = rig.once(f"[job civi]\n{CIVICRM}shell = true")
    t.equal(r.returncode, 69)
    t.contains(r.stderr, 'outcome=broken')
    t.contains(r.stderr, 'the job log cannot be read: the server has gone away')
    rig.answer("begin", "echo 'no such table' >&2; exit 69")
    r = rig.once(f"[job civi]\n{CIVICRM}shell = echo must not run")
    t.equal(r.returncode, 69)
    t.lacks(r.stdout, "must not run")


def test_jobs_are_held_while_preconditions_are_not_met(t):
    rig = Rig(t)
    text = f"[job civi]\n{CIVICRM}shell = echo ran\n[job other]\nneeds = database\nshell = echo ran\n[job free]\nshell = echo free"
    rig.answer("precheck", "echo 'hold an upgrade from 6.10 to 6.17 is pending'; exit 75")
    r = rig.once(text)
    t.equal(r.returncode, 75)
    t.lacks(r.stdout, "ran")
    t.contains(r.stdout, "free")
    t.contains(r.stderr, 'outcome=held')
    t.equal(rig.state()["hold"], "an upgrade from 6.10 to 6.17 is pending")
    t.equal(rig.job("other")["last"]["outcome"], "held")
    rig.answer("precheck", "echo 'civinit-jobs-helper: error: precheck: connection refused' >&2; exit 69")
    r = rig.once(text)
    t.equal(r.returncode, 69)
    t.equal(rig.state()["hold"], "precheck: connection refused")
    rig.answer("precheck", None)
    r = rig.once(text)
    t.equal(r.returncode, 0)
    t.equal(rig.state()["hold"], None)
    assert not rig.called("gate")


def test_mail_waits_behind_a_closed_gate_and_goes_when_it_opens(t):
    rig = Rig(t)
    rig.answer("due", """echo '{"id":3,"name":"Send","api":"Job.process_mailing","mail":true,"needs":"smtp"}'""")
    rig.answer("gate", "echo 'civinit-probe: 535 refused' >&2; exit 69")
    p = rig.start(f"[job civi]\nschedule = @every 1s\nneeds = mail\n{CIVICRM}shell = true")
    wait_for("a run", lambda: rig.runs("civi", "failure"))
    t.equal(rig.runs("civi", "success"), 0)
    t.equal(rig.job("civi")["last"]["reason"], "mail waits: smtp: civinit-probe: 535 refused")
    calls = rig.calls()
    first = calls[:calls.index("backlog")]
    t.equal([c for c in first if not c.startswith("verdict")],
            ["precheck", "recover", "due", "gate smtp", "hold-mail smtp", "begin"])
    assert not rig.called("release-mail")
    rig.answer("due", None)  # held jobs are not due any more
    rig.answer("gate", None)
    wait_for("a good run", lambda: rig.runs("civi", "success"))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)
    calls = rig.calls()
    t.equal(calls.count("release-mail"), 1)
    t.equal(calls.count("recover"), 1)
    assert calls[calls.index("release-mail") - 1].startswith("gate ")


def test_the_gate_is_asked_only_for_what_is_due(t):
    rig = Rig(t)
    text = f"[job civi]\nneeds = mail\n{CIVICRM}shell = true"
    t.equal(rig.once(text).returncode, 0)
    assert rig.called("due") and not rig.called("gate")
    rig.answer("due", """echo '{"id":4,"name":"Fetch","api":"Job.fetch_bounces","mail":true,"needs":"imap"}'""")
    t.equal(rig.once(text).returncode, 0)
    t.equal([c for c in rig.calls() if c.startswith("gate")], ["gate imap"])
    rig.answer("gate", "exit 69")
    t.equal(rig.once(text).returncode, 69)
    assert rig.called("hold-mail imap")
    rig.answer("hold-mail", "echo 'read only' >&2; exit 69")
    r = rig.once(text.replace("true", "echo must not run"))
    t.equal(r.returncode, 69)
    t.lacks(r.stdout, "must not run")
    t.contains(r.stderr, "outcome=held")


def test_a_plain_job_waits_for_its_mail_server(t):
    rig = Rig(t)
    rig.answer("gate", """test "$2" = imap || exit 0; echo 'imap down' >&2; exit 69""")
    r = rig.once("[job fetch]\nneeds = smtp imap\nshell = echo ran")
    t.equal(r.returncode, 69)
    t.lacks(r.stdout, "ran")
    t.equal(rig.calls(), ["gate smtp", "gate imap"])
    t.equal(rig.job("fetch")["last"]["reason"], "imap: imap down")


def test_a_process_per_job(t):
    rig = Rig(t)
    rig.answer("due", """
        echo '{"id":11,"name":"A","api":"Job.a","mail":false,"needs":""}'
        echo '{"id":12,"name":"B","api":"Job.b","mail":false,"needs":""}'
        echo '{"id":13,"name":"C","api":"Job.process_mailing","mail":true,"needs":"smtp"}'""")
    rig.answer("gate", "exit 69")
    rig.answer("verdict", """
        case "$*" in
        *'--exit 255'*) echo '{"run":"crashed","reason":"A: out of memory"}'; exit 1;;
        *) echo '{"run":"success","reason":""}';;
        esac""")
    r = rig.once(f"[civicrm]\nisolate_command = sh -c 'echo job $1; test $1 != 11 || exit 255' php {{id}}\n"
                 f"[job civi]\nneeds = smtp\nisolate = yes\n{CIVICRM}shell = echo the rest")
    t.equal(r.returncode, 255)
    t.equal(re.findall(r"\]: (.*)", r.stdout), ["job 11", "job 12", "the rest"])
    t.contains(r.stderr, "A: out of memory")
    verdicts = [re.sub(r" --output \S+", "", c) for c in rig.calls() if c.startswith("verdict")]
    t.equal(verdicts, ["verdict --mark 41 --exit 255 --signal 0 --mail-held --job 11", "verdict --mark 41 --exit 0 --signal 0 --mail-held --job 12",
                       "verdict --mark 41 --exit 0 --signal 0 --mail-held"])


def test_the_best_command_is_chosen(t):
    """command = auto, or none at all: by the cv in the job's PATH and by CiviCRM's version, as programs tell them."""
    rig = Rig(t)
    os.makedirs(t.path("site"))
    t.write("cli", "#!/bin/sh\necho cli $*", 0o755)
    here = f"[civicrm]\ncli_command = {t.path('cli')} --now\n"
    job = f"[job civi]\ncwd = {t.path('site')}\nenv.PATH = {t.path('site')}:/usr/bin:/bin\n{CIVICRM}"

    def cv(version):
        t.write("site/cv", f"""#!/bin/sh
            test "$CIVINIT_JOB $(pwd)" = "civi {t.path('site')}" || exit 9
            if [ "$*" = --version ]; then {version}; else echo "cv $*"; fi""", 0o755)

    by_eval = r"cv ev .*userPermissionTemp = .*CRM_Core_JobManager\(\)\)->execute\(FALSE\);"

    def expect(civicrm, said, why, text=here + job):
        rig.answer("precheck", f"echo ok {civicrm}")
        r = rig.once(text)
        t.equal(r.returncode, 0, r.stderr)
        t.match(r.stdout, rf"^civi\[\w+\]: {said}$")
        t.equal(r.stdout.count("]: "), 1)
        listed = t.run(rig.jobs, "list", "--config", t.path("cron.ini")).stdout
        t.contains(listed, f"civi: command = auto: {why}\n")
        t.equal(rig.job("civi")["command"], why)
        return r

    expect("6.17.2", "cli --now", "cli_command: exec cv: not found in PATH")
    cv("echo cv 0.3.65")
    r = expect("6.17.2", "cv cron", "cv cron: cv 0.3.65, CiviCRM 6.17.2")
    t.match(r.stderr, "^civinit-jobs: info: job civi: cv cron: cv 0.3.65, CiviCRM 6.17.2$")
    r = expect("6.17.2", "cv cron", "cv cron: cv 0.3.65, CiviCRM 6.17.2", here + job + "command = auto")
    t.lacks(r.stderr, "job civi: cv cron")  # nothing new
    expect("6.4.2", by_eval, "cv ev: CiviCRM 6.4.2 is older than 6.5, and for cv api there is no [civicrm] user")
    by_admin, with_user = "cv api --user=admin job.execute", here + "user = admin\n" + job
    expect("6.4.2", by_admin, "cv api job.execute as admin: CiviCRM 6.4.2 is older than 6.5", with_user)
    expect("", by_admin, "cv api job.execute as admin: the version of CiviCRM is not known", with_user)
    expect("6.5.0", "cv cron", "cv cron: cv 0.3.65, CiviCRM 6.5.0", with_user)
    cv("echo cv 0.3.64")
    expect("6.17.2", by_admin, "cv api job.execute as admin: cv 0.3.64 is older than 0.3.65", with_user)
    cv("echo broken >&2; exit 255")
    expect("6.17.2", by_admin, "cv api job.execute as admin: cv does not tell its version", with_user)
    os.chmod(t.path("site/cv"), 0o644)
    expect("6.17.2", "cli --now", "cli_command: exec cv: Permission denied")
    cv("echo cv 0.3.65")
    rig.answer("precheck", "echo ok 6.17.2")
    r = rig.once(here + job + "command = echo mine")
    t.contains(r.stdout, "]: mine")
    t.lacks(t.run(rig.jobs, "list", "--config", t.path("cron.ini")).stdout, "auto")
    assert "command" not in rig.job("civi")


def test_no_command_to_choose(t):
    rig = Rig(t)
    rig.answer("precheck", "echo ok 6.17.2")
    text = f"[job civi]\nenv.PATH = {t.path('empty')}\n{CIVICRM}command = auto"
    r = rig.once(text)
    t.equal(r.returncode, 78)
    t.match(r.stderr, r'outcome=broken .*reason="exec cv: not found in PATH, and \[civicrm\] cli_command is not set"')
    assert not rig.called("begin")
    t.contains(t.run(rig.jobs, "list", "--config", t.path("cron.ini")).stdout, "civi: command = auto: exec cv: not found")
    t.equal(t.run(rig.jobs, "check", "--config", rig.config("[job a]\ncommand = true\nschedule = @hourly")).returncode, 0)
    t.equal(t.run(rig.jobs, "check", "--config", rig.config("[job a]\nschedule = @hourly")).returncode, 78)
    done = t.run(rig.jobs, "check", "--config", rig.config("[job a]\ncommand = auto\nschedule = @hourly"))
    t.equal(done.returncode, 78)
    t.contains(done.stderr, "auto needs verdict = civicrm")


def test_a_process_per_job_as_somebody(t):
    """Unless isolate_command says otherwise: as the domain's contact with all permissions, or CiviCRM sends no mail."""
    rig = Rig(t)
    t.write("cv", "#!/bin/sh\necho cv $1 $2", 0o755)
    rig.answer("due", """echo '{"id":11,"name":"A","api":"Job.a","mail":false,"needs":""}'""")
    r = rig.once(f"[job civi]\nisolate = yes\nenv.PATH = {t.dir}:/usr/bin:/bin\n{CIVICRM}command = echo the rest")
    t.equal(r.returncode, 0, r.stderr)
    t.match(r.stdout, r"\]: cv ev .*userPermissionTemp = .*getDomain\(\)->contact_id\); \(new CRM_Core_JobManager\(\)\)->executeJobById\(11\);\n")
    t.contains(r.stdout, "]: the rest")


def test_drain_pauses_mail_and_lets_the_run_end_by_itself(t):
    """Also when the database is away at first: it is asked again."""
    refuse = "test -e {0}/asked || {{ touch {0}/asked; echo 'connection refused' >&2; exit 69; }}; ".format(t.dir)
    rig = Rig(t)
    for before in "", refuse:
        rig.answer("hold-mail", f"{before}touch {t.path('paused')}")
        p = rig.start(f"[job civi]\nschedule = @start\ncwd = {t.dir}\n{CIVICRM}"
                      "shell = trap 'echo was signalled' TERM; touch begun; while ! [ -e paused ]; do sleep 0.02; done; echo ended by itself")
        wait_for("the run", lambda: os.path.exists(t.path("begun")))
        p.signal(signal.SIGTERM)
        t.equal(p.wait(), 0)
        t.contains(p.text(), "ended by itself")
        t.lacks(p.text(), "was signalled")
        t.equal(p.text().count("mailings cannot be paused: connection refused"), 1 if before else 0)
        names = [c.split()[0] for c in rig.calls()]
        t.equal(names, ["precheck", "recover", "begin"] + ["hold-mail"] * (2 if before else 1) + ["release-mail", "verdict"])
        t.equal(rig.job("civi")["last"]["outcome"], "success")
        for name in "begun", "paused", "bin/calls":
            os.unlink(t.path(name))


def test_drain_kills_at_the_deadline_and_puts_mail_back(t):
    rig = Rig(t)
    p = rig.start(f"[job civi]\nschedule = @start\ncwd = {t.dir}\n{CIVICRM}shell = touch begun; exec sleep 1000",
                  container="grace = 2s")
    wait_for("the run", lambda: os.path.exists(t.path("begun")))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)
    t.equal(rig.job("civi")["last"]["outcome"], "crashed")
    names = [c.split()[0] for c in rig.calls()]
    t.equal(names[-3:], ["hold-mail", "release-mail", "verdict"])


def test_a_database_that_hangs_does_not_outlast_the_grace_period(t):
    rig = Rig(t)
    rig.answer("hold-mail", "exec sleep 1000")
    rig.answer("verdict", "exec sleep 1000")
    p = rig.start(f"[job civi]\nschedule = @start\ncwd = {t.dir}\n{CIVICRM}shell = touch begun; exec sleep 1000",
                  container="grace = 3s")
    wait_for("the run", lambda: os.path.exists(t.path("begun")))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)
    t.equal(rig.job("civi")["last"]["outcome"], "crashed")
    t.contains(p.text(), "mailings cannot be paused")


def test_a_timeout_of_a_civicrm_run_pauses_mail_first(t):
    rig = Rig(t)
    rig.answer("hold-mail", f"touch {t.path('paused')}")
    r = rig.once(f"[job civi]\ntimeout = 300ms\ncwd = {t.dir}\n{CIVICRM}"
                 "shell = trap 'echo was signalled' TERM; while ! [ -e paused ]; do sleep 0.02; done")
    t.equal(r.returncode, 124)
    t.lacks(r.stdout, "was signalled")
    t.equal([c.split()[0] for c in rig.calls()], ["precheck", "recover", "begin", "hold-mail", "release-mail", "verdict", "backlog"])


def test_a_lock_that_another_has(t):
    rig = Rig(t)
    rig.answer("lock", "echo 'busy pod cron-7 for 12 s'; exit 75")
    text = f"[job civi]\n{CIVICRM}shell = echo ran\n[job free]\nlock = no\nshell = echo free\n"
    r = rig.once(text, extra="lock = yes\nlock_wait = 0")
    t.equal(r.returncode, 75)
    t.contains(r.stderr, 'outcome=skipped reason="the lock is held by pod cron-7 for 12 s"')
    t.lacks(r.stdout, "ran")
    t.contains(r.stdout, "free")
    t.equal(rig.calls(), ["lock --wait 0ms"])
    rig.answer("lock", "echo 'no route' >&2; exit 69")
    r = rig.once(text, extra="lock = yes\nlock_wait = 5s")
    t.equal(r.returncode, 69)
    t.contains(r.stderr, "no route")
    t.contains(r.stderr, "outcome=held")


def test_one_lock_for_a_whole_once_and_one_per_job_with_its_own(t):
    rig = Rig(t)
    r = rig.once("[job a]\nshell = echo a\n[job b]\nshell = echo b\n[job c]\nlock = import\nshell = echo c", extra="lock = yes")
    t.equal(r.returncode, 0)
    calls = rig.calls()
    t.equal(calls.count("lock --wait 0ms"), 1)
    wait_for("both to be given up", lambda: rig.calls().count("end of lock") == 2)
    t.equal(calls.count("lock --wait 0ms --name import"), 1)
    rig.answer("lock", "echo 'busy somebody'; exit 75")
    r = rig.once("[job c]\nlock = import\nshell = echo c")
    t.equal(r.returncode, 75)
    t.contains(r.stderr, "lock import is held by somebody")


def test_a_lost_lock_drains_the_run(t):
    rig = Rig(t)
    lose = f"echo held; while ! [ -e {t.path('begun')} ]; do sleep 0.02; done; echo 'lost the server went away'; exit 69"
    rig.answer("hold-mail", f"touch {t.path('paused')}")
    body = f"cwd = {t.dir}\n{CIVICRM}shell = touch begun; while ! [ -e paused ]; do sleep 0.02; done; echo ended by itself"
    for which, extra in ("", "lock = yes"), ("lock = mine\n", ""):
        rig.answer("lock", lose)
        r = rig.once(f"[job civi]\n{which}{body}", extra=extra)
        t.equal(r.returncode, 75)
        t.contains(r.stdout, "ended by itself")
        t.contains(r.stderr, "the lock was lost while it ran")
        t.contains(r.stderr, "outcome=failure")
        assert rig.called("hold-mail") and rig.called("release-mail")
        os.unlink(t.path("begun"))
        os.unlink(t.path("paused"))
        os.unlink(t.path("bin/calls"))


def test_the_lock_is_held_only_while_something_runs(t):
    rig = Rig(t)
    p = rig.start(f"[job a]\nschedule = @start\ncwd = {t.dir}\nshell = while ! [ -e go ]; do sleep 0.02; done\n"
                  f"[job b]\nschedule = @start\nshell = true\n", extra="lock = yes")
    wait_for("b", lambda: rig.runs("b", "success"))
    assert not rig.called("end of lock")
    t.write("go", "")
    wait_for("the lock's end", lambda: rig.called("end of lock"))
    t.equal(rig.calls().count("lock --wait 0ms"), 1)
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)


def test_lock_around_any_command(t):
    rig = Rig(t)
    c = rig.config("")
    lock = [rig.jobs, "lock", "--config", c]
    r = t.run(*lock, "upgrade", "--wait", "2s", "--", "sh", "-c", "cat; echo to stderr >&2; exit 6", input="through")
    t.equal((r.returncode, r.stdout), (6, "through"))
    t.contains(r.stderr, "to stderr")
    t.equal(rig.calls()[0], "lock --wait 2000ms --name upgrade")
    wait_for("its end", lambda: rig.called("end of lock"))
    t.equal(t.run(*lock, "upgrade", "--", "/nowhere").returncode, 78)
    t.equal(t.run(*lock, "upgrade").returncode, 64)
    t.equal(t.run(*lock, "--", "true").returncode, 64)
    p = t.start(*lock, "upgrade", "--", "sh", "-c", f"trap 'touch {t.path('told')}; exit 5' TERM; touch {t.path('begun')}; while :; do sleep 0.02; done")
    wait_for("the command", lambda: os.path.exists(t.path("begun")))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 5)
    os.unlink(t.path("begun"))
    rig.answer("lock", "echo 'busy pod-2'; exit 75")
    r = t.run(*lock, "upgrade", "--", "touch", t.path("wrong"))
    t.equal(r.returncode, 75)
    t.contains(r.stderr, "lock upgrade is held by pod-2")
    rig.answer("lock", f"echo held; while ! [ -e {t.path('begun')} ]; do sleep 0.02; done; echo lost gone; exit 69")
    r = t.run(*lock, "upgrade", "--", "sh", "-c", f"touch {t.path('begun')}; exec sleep 1000")
    t.equal(r.returncode, 69)
    t.contains(r.stderr, "is lost: gone")
    assert not os.path.exists(t.path("wrong"))


def test_url_jobs_and_hooks_are_the_helpers(t):
    rig = Rig(t)
    rig.answer("url", "echo body; test $2 = good; exit")
    rig.answer("hook", "cat >>$here/hooked")
    r = rig.once("""
[job good]
url = https://example.org/cron?key=secret
[job bad]
url = https://example.org/other
ping = https://hc.example.org/uuid
on_failure = https://hooks.example.org/secret
""")
    t.equal(r.returncode, 1)
    t.match(r.stdout, r"^good\[\w+\]: body$")
    calls = rig.calls()
    t.equal(sorted(c for c in calls if "good" in c), ["url good"])
    t.equal(sorted(c for c in calls if "bad" in c), ["hook job:bad", "ping job:bad fail", "ping job:bad start", "url bad"])
    t.lacks(" ".join(calls), "secret")
    with open(t.path("bin/hooked")) as f:
        t.equal(json.load(f)["job"], "bad")
    rig.answer("ping", "echo refused >&2; exit 69")
    r = rig.once("[jobs]\nping = https://hc.example.org/x\n[job a]\nshell = true")
    t.equal(r.returncode, 0)
    t.contains(r.stderr, "warning: job a: ping")


def test_recovery_is_tried_until_it_works(t):
    rig = Rig(t)
    rig.answer("recover", "echo 'not now' >&2; exit 69")
    p = rig.start(f"[job civi]\nschedule = @every 1s\n{CIVICRM}shell = true")
    wait_for("two runs", lambda: rig.runs("civi", "success") >= 2)
    assert rig.calls().count("recover") >= 2
    rig.answer("recover", None)
    n = rig.runs("civi", "success")
    wait_for("two more", lambda: rig.runs("civi", "success") >= n + 2)
    n = rig.calls().count("recover")
    m = rig.runs("civi", "success")
    wait_for("one more", lambda: rig.runs("civi", "success") > m)
    t.equal(rig.calls().count("recover"), n)
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)


def test_list_asks_for_the_backlog(t):
    rig = Rig(t)
    c = rig.config("[job a]\nschedule = @daily\nshell = true")
    got = json.loads(t.run(rig.jobs, "list", "--json", "--config", c).stdout)
    t.equal(got["mail"], {"pending": 3})
    rig.answer("backlog", "echo 'civinit-jobs-helper: error: backlog: no such database' >&2; exit 69")
    got = json.loads(t.run(rig.jobs, "list", "--json", "--config", c).stdout)
    t.equal(got["backlog_error"], "backlog: no such database")
    t.equal(got["jobs"][0]["name"], "a")


civitest.main(globals())
