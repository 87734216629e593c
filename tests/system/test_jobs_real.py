#!/usr/bin/env python3
"""civinit-jobs with its real helper on a real MariaDB. What stands for CiviCRM is a script that
writes the same rows as CiviCRM does (tests/civicrm has the real one)."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest
import mariadb
from civitest import wait_for
from mariadb import shared_end  # noqa: F401
from pid1 import Container

JOBS = civitest.program("civinit-jobs")
TABLES = """
CREATE TABLE civicrm_domain (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, version VARCHAR(32));
CREATE TABLE civicrm_setting (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255), value TEXT);
CREATE TABLE civicrm_job (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, run_frequency VARCHAR(8) DEFAULT 'Always',
  last_run TIMESTAMP NULL, scheduled_run_date TIMESTAMP NULL, name VARCHAR(255), api_entity VARCHAR(255) DEFAULT 'Job',
  api_action VARCHAR(255), is_active TINYINT DEFAULT 1);
CREATE TABLE civicrm_job_log (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, run_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
  job_id INT UNSIGNED, name VARCHAR(255), description VARCHAR(255), data TEXT);
CREATE TABLE civicrm_mailing_job (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, mailing_id INT UNSIGNED NOT NULL DEFAULT 1,
  scheduled_date TIMESTAMP NULL, start_date TIMESTAMP NULL, end_date TIMESTAMP NULL, status VARCHAR(12),
  is_test TINYINT DEFAULT 0, job_type VARCHAR(255), parent_id INT UNSIGNED, job_offset INT DEFAULT 0, job_limit INT DEFAULT 0);
CREATE TABLE sent (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY);
INSERT INTO civicrm_domain VALUES (1, '5.33.2');
INSERT INTO civicrm_job (id, name, api_action) VALUES (1, 'Send', 'process_mailing'), (2, 'Tidy', 'cleanup');
"""
# log JOB 'TEXT'; begins and ends a run as CiviCRM does.
SCRIPT = """
sql() { mariadb --defaults-file="$CLIENT" -BN -e "$1" "$DATABASE"; }
log() { sql "INSERT INTO civicrm_job_log (job_id, name, description) VALUES ($1, '$2', '$3')"; }
log NULL Run 'Starting scheduled jobs execution'
"""
FINISH = "log NULL Run 'Finishing scheduled jobs execution.'\n"


class Site:
    count = 0

    def __init__(self, t):
        self.t = t
        self.server = mariadb.Server.shared()
        Site.count += 1
        self.name = f"site{Site.count}"
        self.password = self.server.account(self.name, "s3cret", self.name)
        self.sql("SET time_zone = '+00:00';" + TABLES)
        t.write("code/xml/version.xml", "<version><version_no>5.33.2</version_no></version>")
        self.client = t.write("client.cnf", f"[client]\nsocket={self.server.socket}\nuser={self.name}\npassword=s3cret\n", 0o600)
        os.makedirs(t.path("state"))

    def sql(self, sql):
        return self.server.sql(sql, self.name)

    def config(self, script, job="", more=""):
        """A configuration whose one job, civi, runs the script."""
        run = self.t.write("civi.sh", SCRIPT + script, 0o755)
        return self.t.write("cron.ini", f"""
[container]
instance = {self.name}
grace = 60s
[database]
socket = {self.server.socket}
user = {self.name}
password_file = {self.password}
[civicrm]
database = {self.name}
code = {self.t.path("code")}
maintenance = {self.t.path("maintenance")}
[jobs]
state_dir = {self.t.path("state")}
lock = yes
{more}
[job civi]
verdict = civicrm
env.CLIENT = {self.client}
env.DATABASE = {self.name}
cwd = {self.t.dir}
command = sh {run}
{job}
""")

    def once(self, script, **options):
        return self.t.run(JOBS, "run", "--once", "--config", self.config(script, **options))

    def last(self):
        with open(self.t.path("state/jobs.json")) as f:
            return json.load(f)["jobs"][0]["last"]


def test_verdicts_from_the_job_log(t):
    site = Site(t)
    tidy = "log 2 Tidy 'Starting execution of Tidy'\n"
    good = tidy + "log 2 Tidy 'Finished execution of Tidy with result: Success (a:0:{})'\n"
    bad = tidy + "log 2 Tidy 'Finished execution of Tidy with result: Echec, Error message: no such table'\n"
    r = site.once(good + FINISH)
    t.equal(r.returncode, 0, r.stderr)
    t.match(r.stderr, r'job=civi run=\w+ civicrm_job="Tidy" outcome=success')
    for script, code, outcome, part in ((bad + FINISH, 1, "failure", "no such table"), (tidy, 1, "incomplete", "Tidy"),
                                        (tidy + "kill -SEGV $$", 139, "crashed", "Tidy"), (good, 1, "incomplete", "")):
        r = site.once(script)
        t.equal((r.returncode, site.last()["outcome"]), (code, outcome), script)
        t.contains(site.last()["reason"], part)


def test_held_while_an_upgrade_is_pending(t):
    site = Site(t)
    site.sql("UPDATE civicrm_domain SET version = '5.30.0'")
    r = site.once("echo must not run")
    t.equal(r.returncode, 75)
    t.lacks(r.stdout, "must not run")
    t.contains(site.last()["reason"], "5.30.0")
    site.sql("UPDATE civicrm_domain SET version = '5.33.2'")
    t.equal(site.once(FINISH).returncode, 0)


def test_two_pods_at_once(t):
    site = Site(t)
    c = site.config("touch begun; while ! [ -e go ]; do sleep 0.02; done\n" + FINISH)
    first = t.start(JOBS, "run", "--once", "--config", c)
    wait_for("the first pod's run", lambda: os.path.exists(t.path("begun")))
    second = t.run(JOBS, "run", "--once", "--config", c)
    t.equal(second.returncode, 75)
    t.match(second.stderr, rf'outcome=skipped reason="the lock is held by {os.uname().nodename}')
    upgrade = t.run(JOBS, "lock", "--config", c, "jobs", "--", "true")
    t.equal(upgrade.returncode, 75, "an upgrade under the same lock waits too")
    t.write("go", "")
    t.equal(first.wait(), 0)
    t.equal(t.run(JOBS, "lock", "--config", c, "jobs", "--wait", "1m", "--", "sh", "-c", "exit 4").returncode, 4)


def test_a_task_in_one_pod_at_a_time(t):
    """[task] lock = jobs: two containers start together, the task runs in one after the other, and no job meanwhile."""
    site = Site(t)
    jobs = site.config(FINISH)
    ini = f"""
[container]
main = app
[database]
socket = {site.server.socket}
user = {site.name}
password_file = {site.password}
names = {site.name}
[task upgrade]
lock = jobs
timeout = 5m
command = sh -c 'echo begin >>{t.dir}/steps; while [ ! -e {t.dir}/go ]; do sleep 0.02; done; echo end >>{t.dir}/steps'
[service app]
command = sleep 1000
after = upgrade
"""
    first = Container(t, ini, pid1=False, name="first")
    wait_for("the task", lambda: os.path.exists(t.path("steps")))
    second = Container(t, ini, pid1=False, name="second")
    wait_for("the second to ask for the lock",
             lambda: site.server.sql("SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT GET_LOCK%'"), every=0.05)
    r = t.run(JOBS, "run", "--once", "--config", jobs)
    t.equal(r.returncode, 75, r.stderr)
    t.match(r.stderr, rf'outcome=skipped reason="the lock is held by {os.uname().nodename}')
    t.write("go", "")
    for c in first, second:
        c.wait_container("ready")
        c.ends()
    with open(t.path("steps")) as f:
        t.equal(f.read().split(), ["begin", "end"] * 2)
    t.equal(t.run(JOBS, "run", "--once", "--config", jobs).returncode, 0)


def test_a_connection_that_is_killed_is_a_lost_lock(t):
    site = Site(t)
    p = t.start(JOBS, "run", "--once", "--config", site.config(
        "touch begun; while [ -z \"$(sql \"SELECT 1 FROM civicrm_mailing_job WHERE status = 'Paused'\")\" ]; do sleep 0.05; done\n" + FINISH))
    site.sql("INSERT INTO civicrm_mailing_job (status, job_type, start_date) VALUES ('Running', 'child', NOW())")
    wait_for("the run", lambda: os.path.exists(t.path("begun")))
    site.server.sql(f"KILL {site.sql(f'''SELECT IS_USED_LOCK('civinit:{site.name}:jobs')''')[0][0]}")
    t.equal(p.wait(), 75)
    t.contains(p.text(), "the lock is lost")
    t.equal(site.last()["outcome"], "failure")
    t.equal(site.sql("SELECT status FROM civicrm_mailing_job"), [["Running"]], "put back")


SENDING = """
log 1 Send 'Starting execution of Send'
n=0
while [ $n -lt ${MAILS:-100000} ]; do
    [ "$(sql "SELECT status FROM civicrm_mailing_job WHERE id = 1")" = Running ] || break
    sql "INSERT INTO sent VALUES (), (), (), (), (), (), (), (), (), ()"
    n=$((n + 10))
    touch begun
done
log 1 Send 'Finished execution of Send with result: Success ()'
""" + FINISH


def test_sigterm_while_a_mailing_is_sent(t):
    site = Site(t)
    site.sql("INSERT INTO civicrm_mailing_job (status, job_type, start_date) VALUES ('Running', 'child', NOW()), ('Paused', 'child', NOW())")
    p = t.start(JOBS, "run", "--config", site.config(SENDING, job="schedule = @start"))
    wait_for("mails", lambda: os.path.exists(t.path("begun")))
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), 0)
    t.equal(site.last()["outcome"], "success", site.last())
    t.equal(site.sql("SELECT status FROM civicrm_mailing_job ORDER BY id"), [["Running"], ["Paused"]], "exactly those rows")
    t.equal(int(site.sql("SELECT COUNT(*) FROM sent")[0][0]) % 10, 0)


def test_sigkill_and_the_next_start_puts_mail_back(t):
    site = Site(t)
    site.sql("INSERT INTO civicrm_mailing_job (status, job_type, start_date) VALUES ('Running', 'child', NOW())")
    # Mail was paused by a pod that then was killed.
    t.equal(t.run(civitest.program("civinit-jobs-helper"), "--config", site.config(SENDING, job="env.MAILS = 20"), "hold-mail").returncode, 0)
    t.equal(site.sql("SELECT status FROM civicrm_mailing_job"), [["Paused"]])
    r = t.run(JOBS, "run", "--once", "--config", t.path("cron.ini"))
    t.equal(r.returncode, 0, r.stderr)
    t.equal(site.sql("SELECT COUNT(*) FROM sent"), [["20"]])
    t.equal(site.sql("SELECT status FROM civicrm_mailing_job"), [["Running"]])


def test_the_mail_gate(t):
    site = Site(t)
    site.sql("INSERT INTO civicrm_mailing_job (status, job_type, start_date) VALUES ('Running', 'child', NOW())")
    more = f"[mail]\ncheck = sh -c 'test -e {t.path('open')} || {{ echo 535 refused >&2; exit 1; }}'\n"
    r = site.once(SENDING, job="needs = mail\nenv.MAILS = 20", more=more)
    assert r.returncode != 0
    t.contains(site.last()["reason"], "mail waits: smtp: ")
    t.equal(site.sql("SELECT COUNT(*) FROM sent"), [["0"]])
    t.write("open", "")
    r = t.run(JOBS, "run", "--once", "--config", t.path("cron.ini"))
    t.equal(r.returncode, 0, r.stderr)
    t.equal(site.sql("SELECT COUNT(*) FROM sent"), [["20"]])


civitest.main(globals())
