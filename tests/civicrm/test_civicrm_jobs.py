#!/usr/bin/env python3
"""civinit-jobs over a real CiviCRM: verdicts, preconditions, one run at a time."""
import json
import os
import re
import shutil
import subprocess
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib")]
import civisite
import civitest
from civisite import Site, shared_end  # noqa: F401

civisite.isolate()


def told(text):
    """What the log says of CiviCRM's jobs: {name: outcome}."""
    return dict(re.findall(r'civicrm_job="([^"]+)" outcome=(\w+)', text))


def outcome(t, text):
    """Outcome and reason of the run."""
    m = t.match(text, r'job=civicrm run=\w+ outcome=(\w+) .*?(?: reason="(.*)")?$')
    return m[1], (m[2] or "").replace('\\"', '"')


# Job, exit code of the run, its outcome, that of the job, what is said.
MISBEHAVIOURS = (
    ("ok", 0, "success", "success", ""),
    ("apierror", 1, "failure", "failure", 'job "Test apierror" failed: refused on purpose'),
    ("exception", 1, "failure", "failure", "thrown on purpose"),
    ("sql", 1, "failure", "failure", 'job "Test sql" failed: '),
    ("typeerror", 255, "crashed", "crashed", "Call to a member function nothing() on null"),
    ("exit", 3, "crashed", "crashed", 'job "Test exit" began and never ended: exit code 3'),
    ("memory", 255, "crashed", "crashed", "Allowed memory size"),
    ("segv", 139, "crashed", "crashed", "killed by SIGSEGV"),
)


def verdicts(t, locale, failure):
    site = Site.shared()
    config = site.config(t, mail=False)
    for job, code, run, of_job, said in MISBEHAVIOURS:
        site.reset(locale)
        site.jobs(f"Test {job}")
        done = site.once(t, config)
        text = done.stdout + done.stderr
        t.equal(outcome(t, text)[0], run, f"{job}: {text}")
        t.equal(done.returncode, code, f"{job}: {text}")
        t.equal(told(text), {f"Test {job}": of_job}, text)
        t.contains(outcome(t, text)[1], said)
        if run == "failure":  # the word that CiviCRM itself writes
            t.contains(site.sql("SELECT description FROM civicrm_job_log WHERE description LIKE 'Finished%'")[0][0], f"with result: {failure}, Error message: ")


def test_verdicts(t):
    verdicts(t, "en_US", "Failure")


def test_verdicts_in_french(t):
    verdicts(t, "fr_FR", "Echec")


def test_worst_decides(t):
    """The others run and are told; a crash takes those behind it in the alphabet along."""
    site = Site.shared()
    site.reset()
    config = site.config(t, mail=False)
    site.jobs("Test apierror", "Test ok", "Test sql")
    done = site.once(t, config)
    t.equal(done.returncode, 1)
    t.equal(told(done.stdout + done.stderr), {"Test apierror": "failure", "Test ok": "success", "Test sql": "failure"})
    t.contains(outcome(t, done.stderr)[1], "(and 1 more)")
    site.jobs("Test exit", "Test ok")
    done = site.once(t, config)
    t.equal(told(done.stdout + done.stderr), {"Test exit": "crashed"})


def test_broken(t):
    """The exit code is 0 each time."""
    site = Site.shared()
    site.reset()
    site.jobs("Test ok")
    config = site.config(t, mail=False)
    with open(config) as f:
        wrong = t.write("wrong.ini", f.read().replace("-p adminpass", "-p wrong"))
    done = site.once(t, wrong)
    t.equal(outcome(t, done.stderr), ("broken", "no job began, exit code 0: ERROR: Invalid username and/or password"), done.stdout)
    assert done.returncode != 0
    t.equal(site.number("SELECT COUNT(*) FROM civicrm_job_log"), 0)


def test_preconditions(t):
    site = Site.shared()
    site.reset()
    site.jobs("Test ok")
    config = site.config(t, mail=False)
    site.sql("UPDATE civicrm_domain SET version = '5.30.0'")
    done = site.once(t, config)
    t.equal(done.returncode, 75, done.stderr)
    t.equal(outcome(t, done.stderr), ("held", "upgrade pending: the database is at 5.30.0, the code at 5.33.2"))
    t.equal(site.number("SELECT COUNT(*) FROM civicrm_job_log"), 0)
    site.sql("UPDATE civicrm_domain SET version = '5.33.2'")
    with open(config) as f:
        maintained = t.write("maintained.ini", f.read().replace("[civicrm]\n", f"[civicrm]\nmaintenance = {t.path('maintenance')}\n"))
    t.write("maintenance", "")
    done = site.once(t, maintained)
    t.equal(done.returncode, 75, done.stderr)
    t.match(outcome(t, done.stderr)[1], "maintenance")
    os.unlink(t.path("maintenance"))
    t.equal(site.once(t, maintained).returncode, 0)
    site.db.stop()
    try:
        done = site.once(t, config)
        t.equal(done.returncode, 69, done.stderr)
    finally:
        site.db.start()


def sleeper(t, site):
    site.reset()
    site.jobs("Test sleep", "Test sql")
    config = site.config(t, mail=False)
    p = t.start(civitest.program("civinit-jobs"), "--config", config, "run", "--once")
    civitest.wait_for("the job to sleep", lambda: os.path.exists(site.root + "/tmp/civitest-asleep"))
    return config, p


def wake(site):
    with open(site.root + "/tmp/civitest-go", "w"):
        pass


def test_two_pods(t):
    """The second one runs nothing and says who does."""
    site = Site.shared()
    _, first = sleeper(t, site)
    second = site.once(t, site.config(t, name="other.ini", mail=False))
    t.equal(second.returncode, 75, second.stderr)
    t.contains(second.stderr, os.uname().nodename)
    wake(site)
    t.equal(first.wait(), 1)
    t.equal(told(first.text()), {"Test sleep": "success", "Test sql": "failure"})
    t.equal(site.number("SELECT COUNT(*) FROM civicrm_job_log WHERE description LIKE 'Starting execution of Test sleep'"), 1)


def test_second_pod_waits(t):
    site = Site.shared()
    _, first = sleeper(t, site)
    other = site.config(t, name="other.ini", mail=False)
    with open(other) as f:
        waiting = t.write("waiting.ini", f.read().replace("lock = yes", "lock = yes\nlock_wait = 5m"))
    second = t.start(civitest.program("civinit-jobs"), "--config", waiting, "run", "--once")
    civitest.wait_for("the second pod to ask for the lock",
                      lambda: site.db.sql("SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT GET_LOCK%'"), every=0.05)
    wake(site)
    t.equal(first.wait(), 1)
    t.equal(second.wait(), 1)
    t.equal(told(second.text()), {"Test sleep": "success", "Test sql": "failure"})


def test_database_restarts(t):
    """In mid-run: PHP dies of it, and the lock is lost. Told as that; the next run is as always."""
    site = Site.shared()
    config, p = sleeper(t, site)
    site.db.stop()
    site.db.start()
    code = p.wait(120)
    text = p.text()
    assert code != 0, text
    t.match(outcome(t, text)[0], "failure|crashed|broken")
    t.equal(told(text).get("Test sleep", "crashed"), "crashed")
    wake(site)
    site.jobs("Test ok")
    done = site.once(t, config)
    t.equal(done.returncode, 0, done.stderr)


def isolated(t, site, job=""):
    """The configuration with a process for each due job."""
    command = " ".join(site.inside("php", "/srv/site.php", "job", "{id}"))
    config = site.config(t, mail=False, job=f"isolate = yes\n{job}")
    with open(config) as f:
        text = f.read().replace("[civicrm]\n", f"[civicrm]\nisolate_command = {command}\n")
    return t.write("isolated.ini", text)


def started(site, job):
    return site.number(f"SELECT COUNT(*) FROM civicrm_job_log WHERE description LIKE 'Starting execution of {job}%'")


def test_isolate(t):
    """A process per due job: the one that dies harms no other, and each runs once, also one that is always due."""
    site = Site.shared()
    site.reset()
    config = isolated(t, site)
    names = ("Test apierror", "Test exit", "Test segv", "Test ok")
    site.jobs(*names)
    site.sql("UPDATE civicrm_job SET scheduled_run_date = NOW() - INTERVAL 1 HOUR WHERE name = 'Test ok'")
    done = site.once(t, config)
    t.equal(told(done.stdout + done.stderr), {"Test apierror": "failure", "Test exit": "crashed", "Test segv": "crashed", "Test ok": "success"})
    assert done.returncode != 0
    t.equal({n: started(site, n) for n in names}, dict.fromkeys(names, 1), "times run")
    t.equal(site.number("SELECT COUNT(*) FROM civicrm_job_log WHERE description LIKE 'Finishing scheduled jobs%'"), 1, "the run of the rest")
    t.equal(site.number("SELECT COUNT(*) FROM civicrm_job WHERE scheduled_run_date IS NOT NULL"), 0, "left out for good")
    site.once(t, config)
    t.equal(started(site, "Test ok"), 2, "the next run has it again")


def test_isolate_has_a_timeout_for_each(t):
    """The one that hangs is ended, all of its processes; the others run."""
    site = Site.shared()
    site.reset()
    site.jobs("Test ok", "Test sleep", "Test sql")
    done = site.once(t, isolated(t, site, "timeout = 8s"))
    t.equal(done.returncode, 124, done.stderr)
    t.equal(outcome(t, done.stderr)[0], "timeout")
    t.equal(told(done.stdout + done.stderr), {"Test ok": "success", "Test sleep": "crashed", "Test sql": "failure"})
    t.equal(started(site, "Test sleep"), 1)


def test_without_cv(t):
    """command = auto where there is no cv: bin/cli.php, with the password from a file. No process shows it."""
    site = Site.shared()
    site.reset()
    shutil.copy(os.path.join(civitest.ROOT, "config/civicrm/cli.php"), site.root + "/tmp/cli.php")
    password = site.root + "/tmp/admin-password"
    cli = site.inside("CIVICRM_SITE=civi.test", "CIVICRM_USER=admin", "CIVICRM_PASSWORD_FILE=/tmp/admin-password", f"CIVICRM_CODE={civisite.CORE}",
                      "php", "/tmp/cli.php")
    with open(site.config(t, mail=False)) as f:
        text = re.sub(r"^command = .*", "command = auto\nenv.PATH = /usr/sbin:/usr/bin:/bin", f.read(), flags=re.M)
    config = t.write("auto.ini", text.replace("[civicrm]\n", f"[civicrm]\ncli_command = {' '.join(cli)}\n"))

    def write(text):
        with open(password, "w") as f:
            f.write(text)
        os.chown(password, 33, 33)
        os.chmod(password, 0o400)

    write("adminpass\n")
    site.submit()
    site.jobs("Send Scheduled Mailings", "Test apierror", "Test sleep")
    pod = t.start(civitest.program("civinit-jobs"), "--config", config, "run", "--once")
    civitest.wait_for("the job to sleep", lambda: os.path.exists(site.root + "/tmp/civitest-asleep"))
    shown = subprocess.run(["ps", "-e", "-o", "args"], capture_output=True, text=True, check=True).stdout
    t.contains(shown, "php /tmp/cli.php")
    t.lacks(shown, "adminpass")
    wake(site)
    t.equal(pod.wait(), 1)
    t.contains(pod.text(), "job civicrm: cli_command: exec cv: not found in PATH\n")
    t.equal(told(pod.text()), {"Send Scheduled Mailings": "success", "Test apierror": "failure", "Test sleep": "success"})
    t.equal(len(site.sink.accepted), civisite.PEOPLE)
    write("wrong\n")
    done = site.once(t, config)
    t.equal(outcome(t, done.stderr), ("broken", "no job began, exit code 0: ERROR: Invalid username and/or password"), done.stdout)
    os.unlink(password)
    done = site.once(t, config)
    t.equal(outcome(t, done.stderr), ("broken", "no job began, exit code 78: ERROR: CIVICRM_PASSWORD_FILE must be a readable file"), done.stdout)
    t.equal(done.returncode, 78)


def test_over_http(t):
    """bin/cron.php answers everything with 200: what it says, and the job log, tell. Account and key go in the body."""
    site = Site.shared()
    site.reset()
    web = t.start(*site.inside("php", "-S", "127.0.0.1:8080", "-t", "/usr/share/wordpress"))
    web.wait_text("started")
    body = t.write("body", "name=admin&pass=adminpass&key=sitekey0123456789abcdef", 0o600)
    config = site.config(t, mail=False)
    with open(config) as f:
        text = f.read()
    by_url = f"""url = http://127.0.0.1:8080/wp-content/plugins/civicrm/civicrm/bin/cron.php
method = POST
header = "Content-Type: application/x-www-form-urlencoded"
body_file = {body}
failure_text = .
"""
    config = t.write("url.ini", re.sub(r"^command = .*\n", by_url, text, flags=re.M))
    site.jobs("Test ok")
    done = site.once(t, config)
    t.equal(done.returncode, 0, done.stdout + done.stderr)
    t.equal(told(done.stdout + done.stderr), {"Test ok": "success"})
    site.jobs("Test apierror")
    done = site.once(t, config)
    t.equal((done.returncode, outcome(t, done.stderr)[0]), (1, "failure"), done.stdout + done.stderr)
    t.write("body", "name=admin&pass=adminpass&key=wrong", 0o600)
    done = site.once(t, config)
    t.equal(outcome(t, done.stderr)[0], "broken", done.stdout + done.stderr)
    assert done.returncode != 0
    for out in (done.stdout, done.stderr, web.text()):
        t.lacks(out, "adminpass")


def test_backlog(t):
    site = Site.shared()
    site.reset()
    config = site.config(t)
    site.submit()
    site.jobs("Test apierror")
    t.equal(site.once(t, config).returncode, 1)
    done = t.run(civitest.program("civinit-jobs-helper"), "--config", config, "backlog")
    t.equal(done.returncode, 0, done.stderr)
    got = json.loads(done.stdout)
    t.equal(got["missing"], [])
    t.equal(got["mail"]["pending"], civisite.PEOPLE)
    t.equal([j["failures_24h"] for j in got["civicrm"] if j["name"] == "Test apierror"], [1])


civitest.main(globals())
