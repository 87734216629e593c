#!/usr/bin/env python3
"""civinit-jobs-helper on MariaDB with tables of CiviCRM's shape (tests/civicrm has the real one)."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest
import mariadb
from civicrmtables import MAILINGS, TABLES
from mariadb import shared_end  # noqa: F401
from webserver import Web

class Site:
    """A database of its own on the file's server, and a configuration that leads to it."""
    count = 0

    def __init__(self, t, tables=TABLES, rights="ALL", more="", server=None):
        self.t = t
        self.server = server or mariadb.Server.shared()
        Site.count += 1
        self.name = f"civicrm{Site.count}"
        password = self.server.account(f"site{Site.count}", "s3cret", self.name, rights=rights)
        if tables:
            self.sql("SET time_zone = '+00:00';" + tables)
        self.state = t.path("state")
        self.config = t.write("cron.ini", f"""
[database]
socket = {self.server.socket}
user = site{Site.count}
password_file = {password}
[civicrm]
database = {self.name}
code = {t.path("code")}
maintenance = {t.path("maintenance")}
[jobs]
state_dir = {self.state}
{more}""")
        t.write("code/xml/version.xml", "<version><version_no>5.33.2</version_no></version>")

    def sql(self, sql):
        return self.server.sql(sql, self.name)

    def run(self, *args, **options):
        return self.t.run(civitest.program("civinit-jobs-helper"), *args, "--config", self.config, **options)

    def ok(self, *args, **options):
        done = self.run(*args, **options)
        assert done.returncode == 0, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *args, **options):
        return self.t.start(civitest.program("civinit-jobs-helper"), *args, "--config", self.config, **options)

    def rows(self, table, columns):
        return [" ".join(r) for r in self.sql(f"SELECT {columns} FROM {table} ORDER BY id")]


class Holder:
    """`lock` with a stdin that stays open until release()."""

    def __init__(self, site, *args):
        r, self.w = os.pipe()
        self.process = site.start("lock", *args, stdin=r)
        os.close(r)
        site.t.defer(self.release)

    def release(self):
        if self.w is not None:
            os.close(self.w)
            self.w = None


def test_lock(t):
    site = Site(t)
    first = Holder(site)
    first.process.wait_text("^held$")
    second = site.run("lock", input="")
    t.equal(second.returncode, 75, second.stderr)
    t.match(second.stdout, rf"^busy {os.uname().nodename} since 20\S+Z$")
    t.equal(site.run("lock", "--name", "upgrade", input="").stdout, "held\n", "another name is another lock")
    third = Holder(site, "--wait", "5m")
    first.release()
    t.equal(first.process.wait(), 0)
    third.process.wait_text("^held$")
    # Who held it before is not taken for who holds it now.
    third.release()
    t.equal(third.process.wait(), 0)
    t.equal(site.run("lock", input="").stdout, "held\n")


def test_lock_is_lost(t):
    site = Site(t, server=mariadb.Server(t))
    holder = Holder(site)
    holder.process.wait_text("^held$")
    connection = site.sql(f"SELECT IS_USED_LOCK('civinit:{site.name}:jobs')")[0][0]
    site.server.sql(f"KILL {connection}")
    t.equal(holder.process.wait(), 69)
    t.match(holder.process.text(), "^lost ")
    again = Holder(site)
    again.process.wait_text("^held$")
    site.server.kill()
    t.equal(again.process.wait(), 69)
    t.match(again.process.text(), "^lost ")
    t.match(again.process.text(), "error: lock: the lock \"jobs\" is lost: ")
    t.equal(site.run("lock", input="").returncode, 69)


def test_lock_without_tables(t):
    site = Site(t, tables="", rights="SELECT")
    first = Holder(site)
    first.process.wait_text("^held$")
    busy = site.run("lock", input="")
    t.match(busy.stdout, rf"^busy connection \d+ of site\d+@")


def test_precheck(t):
    site = Site(t)
    t.equal(site.ok("precheck"), "ok 5.33.2\n")
    for version, want in (("5.30.0", "hold upgrade pending: the database is at 5.30.0, the code at 5.33.2"),
                          ("5.34.0", "hold the database is at 5.34.0, newer than the code at 5.33.2")):
        site.sql(f"UPDATE civicrm_domain SET version = '{version}'")
        done = site.run("precheck")
        t.equal((done.returncode, done.stdout), (75, want + "\n"))
    site.sql("UPDATE civicrm_domain SET version = '5.33.2'; INSERT INTO civicrm_setting VALUES (1, 'core_maintenance_mode', 's:1:\"1\";')")
    t.equal(site.run("precheck").stdout, "hold maintenance: CiviCRM's core_maintenance_mode is on\n")
    site.sql("UPDATE civicrm_setting SET value = 's:7:\"inherit\";'")
    t.equal(site.ok("precheck"), "ok 5.33.2\n")
    t.write("maintenance", "")
    done = site.run("precheck")
    t.equal((done.returncode, done.stdout), (75, f"hold maintenance: {t.path('maintenance')} exists\n"))


def test_precheck_finds_the_code(t):
    """Unless [civicrm] code names it: below the folder of a CiviCRM job, where each CMS has it."""
    site = Site(t, more=f"[job other]\ncommand = true\n[job civi]\ncommand = auto\nverdict = civicrm\ncwd = {t.path('site/web')}\n")
    with open(site.config) as f:
        text = f.read()
    t.write("cron.ini", text.replace(f"code = {t.path('code')}\n", ""))
    os.makedirs(t.path("site/web"))
    t.equal(site.ok("precheck"), "ok 5.33.2\n")
    for place in ("web/vendor/civicrm/civicrm-core", "vendor/civicrm/civicrm-core", "web/wp-content/plugins/civicrm/civicrm", "web/sites/all/modules/civicrm",
                  "web/modules/civicrm", "web/core"):
        xml = t.write(f"site/{place}/xml/version.xml", "<version><version_no>6.17.2</version_no></version>")
        done = site.run("precheck")
        t.equal((done.returncode, done.stdout), (75, "hold upgrade pending: the database is at 5.33.2, the code at 6.17.2\n"), place)
        os.unlink(xml)
    t.equal(site.ok("precheck"), "ok 5.33.2\n")


def test_precheck_without_civicrm(t):
    site = Site(t, tables="")
    done = site.run("precheck")
    t.equal((done.returncode, done.stdout), (75, f"hold database {site.name} has no CiviCRM tables\n"))
    site.server.sql(f"DROP USER site{Site.count}")
    done = site.run("precheck")
    t.equal(done.returncode, 77)
    t.contains(done.stderr, "access denied")
    t.lacks(done.stderr, "s3cret")


def log_rows(*rows):
    return "".join(f"INSERT INTO civicrm_job_log (job_id, name, description, run_time) VALUES ({i or 'NULL'}, {name and repr(name) or 'NULL'}, '{text}', "
                   f"'2026-03-01 12:00:{s:02}');" for s, (i, name, text) in enumerate(rows))


def test_begin_and_verdict(t):
    site = Site(t)
    t.equal(site.ok("begin"), "mark 0\n")
    site.sql(log_rows((1, "Old", "Starting execution of Old")))
    t.equal(site.ok("begin"), "mark 1\n")
    site.sql("SET time_zone = '+00:00';" + log_rows(
        (0, "", "Starting scheduled jobs execution"), (2, "A", "Starting execution of A"),
        (3, "Ä", "Starting execution of Ä"), (2, "A", "Finished execution of A with result: Success (1)"),
        (3, "Ä", "Finished execution of Ä with result: Echec, Error message: raté"),
        (0, "", "Finishing scheduled jobs execution.")))
    done = site.run("verdict", "--mark", "1", "--exit", "0")
    t.equal(done.returncode, 1, done.stderr)
    t.equal([json.loads(line) for line in done.stdout.splitlines()], [
        {"job": "A", "id": 2, "outcome": "success", "seconds": 2, "message": ""},
        {"job": "Ä", "id": 3, "outcome": "failure", "seconds": 2, "message": "raté"},
        {"run": "failure", "reason": "job \"Ä\" failed: raté"}])
    t.equal(site.ok("verdict", "--mark", "1", "--job", "2").splitlines()[-1], '{"run":"success","reason":""}')
    out = t.write("output", "x\nERROR: Invalid username and/or password\n")
    done = site.run("verdict", "--mark", "99", "--exit", "0", "--output", out)
    t.equal((done.returncode, json.loads(done.stdout)), (1, {
        "run": "broken", "reason": "no job began, exit code 0: ERROR: Invalid username and/or password"}))


def test_nobody_sends_nothing(t):
    """As a user who may not see contacts, CiviCRM 6 prepares a mailing, sends nothing and calls it a success."""
    site = Site(t, tables=TABLES + """ALTER TABLE civicrm_job ADD domain_id INT DEFAULT 1;
        CREATE TABLE civicrm_mailing (id INT PRIMARY KEY, domain_id INT DEFAULT 1, sms_provider_id INT);
        INSERT INTO civicrm_mailing (id, sms_provider_id) VALUES (1, NULL), (2, 7);
        INSERT INTO civicrm_job (id, name, api_action) VALUES (2, 'Send', 'process_mailing'), (3, 'Text', 'process_sms');
        INSERT INTO civicrm_mailing_job (mailing_id, status, job_type, scheduled_date, parent_id) VALUES
          (1, 'Running', NULL, '2026-03-01', NULL), (1, 'Scheduled', 'child', '2026-03-01', 1), (2, 'Scheduled', 'child', '2026-03-01', NULL);""")

    def run(processed, *more, job=(2, "Send")):
        site.sql("DELETE FROM civicrm_job_log;" + "".join(
            f"INSERT INTO civicrm_job_log (job_id, name, description) VALUES ({i or 'NULL'}, '{name}', '{text}');" for i, name, text in (
                (0, "", "Starting scheduled jobs execution"), (*job, f"Starting execution of {job[1]}"),
                (*job, f'Finished execution of {job[1]} with result: Success (a:1:{{s:9:"processed";i:{processed};}})'),
                (0, "", "Finishing scheduled jobs execution."))))
        return json.loads(site.run("verdict", "--mark", "0", *more).stdout.splitlines()[-1])

    said = run(0)
    t.equal(said["run"], "failure")
    t.match(said["reason"], '^job "Send" failed: 1 part of mailings due, and nothing was sent: may the account')
    t.equal(run(0, "--mail-held")["run"], "success")
    t.equal(run(3)["run"], "success")
    t.equal(run(0, job=(3, "Text"))["run"], "success")
    for state in ("status = 'Running', start_date = NOW()", "status = 'Paused', start_date = NULL", "status = 'Complete'",
                  "status = 'Scheduled', scheduled_date = NOW() + INTERVAL 1 DAY"):
        site.sql(f"UPDATE civicrm_mailing_job SET {state} WHERE id = 2")
        t.equal(run(0)["run"], "success", state)
    site.sql("DROP TABLE civicrm_mailing")
    t.equal(run(0)["run"], "success")


def test_verdict_when_the_database_returns(t):
    site = Site(t, server=mariadb.Server(t))
    site.sql(log_rows((0, "", "Starting scheduled jobs execution"), (0, "", "Finishing scheduled jobs execution.")))
    site.server.stop()
    done = site.run("verdict", "--mark", "0", "--wait", "0")
    t.equal((done.returncode, json.loads(done.stdout)["run"]), (1, "broken"))
    waiting = site.start("verdict", "--mark", "0", "--wait", "5m")
    site.server.start()
    t.equal(waiting.wait(), 0)
    t.contains(waiting.text(), '{"run":"success","reason":""}')


def test_due(t):
    site = Site(t)
    ago = "NOW() - INTERVAL"
    for name, frequency, last, by_hand, action in (
            ("01 always", "Always", "NOW()", "NULL", "process_mailing"), ("02 never run", "Daily", "NULL", "NULL", "x"),
            ("03 hourly", "Hourly", f"{ago} 61 MINUTE", "NULL", "fetch_bounces"), ("04 hourly, early", "Hourly", f"{ago} 59 MINUTE", "NULL", "x"),
            ("05 daily", "Daily", f"{ago} 25 HOUR", "NULL", "x"), ("06 daily, early", "Daily", f"{ago} 23 HOUR", "NULL", "x"),
            ("07 weekly", "Weekly", f"{ago} 8 DAY", "NULL", "x"), ("08 weekly, early", "Weekly", f"{ago} 6 DAY", "NULL", "x"),
            ("09 monthly", "Monthly", f"{ago} 32 DAY", "NULL", "x"), ("10 monthly, early", "Monthly", f"{ago} 27 DAY", "NULL", "x"),
            ("11 quarter", "Quarter", f"{ago} 93 DAY", "NULL", "x"), ("12 quarter, early", "Quarter", f"{ago} 88 DAY", "NULL", "x"),
            ("13 yearly", "Yearly", f"{ago} 367 DAY", "NULL", "x"), ("14 yearly, early", "Yearly", f"{ago} 364 DAY", "NULL", "x"),
            ("15 by hand, later", "Always", "NULL", "NOW() + INTERVAL 1 HOUR", "x"),
            ("16 by hand, now", "Yearly", "NOW()", f"{ago} 1 SECOND", "send_reminder")):
        site.sql(f"SET time_zone = '+00:00'; INSERT INTO civicrm_job (name, run_frequency, last_run, scheduled_run_date, api_action) "
                 f"VALUES ('{name}', '{frequency}', {last}, {by_hand}, '{action}')")
    site.sql("INSERT INTO civicrm_job (name, run_frequency, is_active) VALUES ('00 off', 'Always', 0)")
    due = [json.loads(line) for line in site.ok("due").splitlines()]
    t.equal([j["name"][:2] for j in due], ["01", "02", "03", "05", "07", "09", "11", "13", "16"])
    t.equal([j["needs"] for j in due], ["smtp", "", "imap", "", "", "", "", "", "smtp"])
    t.equal([j["mail"] for j in due if j["mail"] != bool(j["needs"])], [])
    t.equal(due[0]["api"], "Job.process_mailing")


def state(site):
    return site.rows("civicrm_mailing_job", "status"), site.rows("civicrm_job", "COALESCE(scheduled_run_date, '-')")


def test_hold_and_release(t):
    site = Site(t, TABLES + MAILINGS)
    before = state(site)
    t.equal(site.ok("hold-mail"), "held 3 mailings 2 jobs\n")
    held, dates = state(site)
    t.equal(held, ["Running", "Complete", "Paused", "Paused", "Paused", "Scheduled", "Paused", "Paused", "Running"])
    t.equal([d == b for d, b in zip(dates, before[1])], [False, True, True, False, True])
    t.equal([json.loads(line)["name"] for line in site.ok("due").splitlines()], ["bounces", "other"])
    # Again, while it is in force: nothing is forgotten, what is new is added.
    site.sql("SET time_zone = '+00:00'; INSERT INTO civicrm_mailing_job (id, mailing_id, scheduled_date, status) VALUES (10, 6, NOW(), 'Scheduled')")
    site.sql("UPDATE civicrm_job SET scheduled_run_date = scheduled_run_date - INTERVAL 25 HOUR WHERE id = 1;"
             "UPDATE civinit_mail_hold SET ours = ours - INTERVAL 25 HOUR WHERE what = 'j' AND id = 1")  # a day of outage later
    assert site.ok("hold-mail").startswith("held 1 mailings ")
    t.equal([json.loads(line)["name"] for line in site.ok("due").splitlines()], ["bounces", "other"])
    t.equal(site.ok("release-mail"), "released 4 mailings 2 jobs\n")
    after = state(site)
    t.equal(after[0], before[0] + ["Scheduled"])
    t.equal(after[1], before[1])
    t.equal(site.ok("release-mail"), "released 0 mailings 0 jobs\n")
    t.equal(site.ok("hold-mail", "imap"), "held 0 mailings 1 jobs\n")
    t.equal(site.ok("recover"), "recovered 0 mailings 1 jobs\n")
    t.equal(state(site), after)
    t.equal(site.ok("hold-mail", "--jobs-only", "smtp"), "held 0 mailings 2 jobs\n")
    t.equal(site.ok("release-mail"), "released 0 mailings 2 jobs\n")


def test_hold_leaves_what_others_did(t):
    site = Site(t, TABLES + MAILINGS)
    site.ok("hold-mail")
    # An administrator pauses mailing 1 (its parent was still Running), cancels mailing 2, sets a date by hand.
    site.sql("SET time_zone = '+00:00'; UPDATE civicrm_mailing_job SET status = 'Paused' WHERE mailing_id = 1 AND status IN ('Scheduled', 'Running');"
             "UPDATE civicrm_mailing_job SET status = 'Canceled' WHERE mailing_id = 2;"
             "UPDATE civicrm_job SET scheduled_run_date = '2038-01-01 00:00:00' WHERE id = 1")
    t.equal(site.ok("release-mail"), "released 0 mailings 1 jobs\n")
    rows, dates = state(site)
    t.equal(rows, ["Paused", "Complete", "Paused", "Paused", "Canceled", "Scheduled", "Paused", "Paused", "Running"])
    t.equal(dates[0], "2038-01-01 00:00:00")


def test_hold_follows_php(t):
    """What php did to a held row meanwhile counts: a part that it began is put back as Running."""
    site = Site(t, TABLES + MAILINGS)
    site.ok("hold-mail")
    site.sql("UPDATE civicrm_mailing_job SET status = 'Complete' WHERE id = 3; UPDATE civicrm_mailing_job SET status = 'Running', start_date = NOW() WHERE id = 4")
    site.ok("hold-mail")
    t.equal(state(site)[0][2:4], ["Complete", "Paused"])
    site.ok("release-mail")
    t.equal(state(site)[0][2:4], ["Complete", "Running"])


def test_what_ran_is_left_out(t):
    """Of the run of the rest, and only of that; what was put off by a gate, or by somebody's will, is none of it."""
    site = Site(t, TABLES + MAILINGS)
    site.ok("hold-mail")
    before = state(site)
    dates = "SELECT id, COALESCE(scheduled_run_date > NOW(), 0) FROM civicrm_job ORDER BY id"
    free = [r[0] for r in site.sql(dates) if r[1] == "0"]
    assert 2 <= len(free) < len(site.sql(dates)), site.sql(dates)
    site.sql(f"UPDATE civicrm_job SET scheduled_run_date = NOW() - INTERVAL 1 HOUR WHERE id = {free[0]}")
    everybody = ",".join(r[0] for r in site.sql(dates))
    site.ok("hold-ran", everybody)
    t.equal([r[1] for r in site.sql(dates)], ["1"] * len(site.sql(dates)))
    site.ok("release-ran")
    t.equal(state(site), before, "a date that had come is gone, what is held stays")
    site.ok("release-ran")
    # A pod that was killed in between.
    site.ok("hold-ran", free[0])
    site.ok("recover")
    t.equal([r[1] for r in site.sql(dates) if r[0] in free], ["0"] * len(free))
    for wrong in "", "1,", "1 OR 1", "x":
        t.equal(site.run("hold-ran", wrong).returncode, 64)


def test_hold_without_right_to_create(t):
    site = Site(t, TABLES + MAILINGS, rights="SELECT, UPDATE, INSERT, DELETE")
    before = state(site)
    t.equal(site.ok("hold-mail"), "held 3 mailings 2 jobs\n")
    t.equal(oct(os.stat(t.path("state/mail-hold")).st_mode & 0o777), "0o600")
    assert site.ok("hold-mail").startswith("held 0 mailings ")
    t.equal(site.ok("recover"), "recovered 3 mailings 2 jobs\n")
    t.equal(state(site), before)
    t.equal(os.path.exists(t.path("state/mail-hold")), False)
    # Where it cannot be remembered, nothing is paused.
    os.rmdir(t.path("state"))
    t.write("state", "a file")
    done = site.run("hold-mail")
    assert done.returncode not in (0, 1), done
    t.equal(state(site), before)


def test_backlog(t):
    site = Site(t, TABLES + MAILINGS)
    site.sql("""SET time_zone = '+00:00';
      INSERT INTO civicrm_mailing_recipients (mailing_id) VALUES (1),(1),(1),(2),(2),(3);
      UPDATE civicrm_mailing_job SET job_limit = 5 WHERE id = 4;
      INSERT INTO civicrm_mailing_event_queue (id, job_id) VALUES (1, 3), (2, 3), (3, 3), (4, 2), (5, 9);
      INSERT INTO civicrm_mailing_event_delivered (event_queue_id) VALUES (1);
      INSERT INTO civicrm_mailing_event_bounce (event_queue_id, bounce_reason) VALUES (2, 'Failed to connect to 127.0.0.1:25 [SMTP: x]'),
        (4, 'authentication failure [SMTP: Invalid response code received from server (code: 535)]'), (7, '5.1.1 user unknown');
      INSERT INTO civicrm_email (on_hold, hold_date) VALUES (1, NOW()), (1, '2020-01-01'), (0, NULL);
      INSERT INTO civicrm_job_log (job_id, name, description) VALUES (NULL, NULL, 'Starting scheduled jobs execution'),
        (2, 'other', 'Starting execution of other'), (2, 'other', 'Finished execution of other with result: Echec, Error message: x'),
        (3, 'bounces', 'Starting execution of bounces'), (3, 'bounces', 'Starting execution of bounces'),
        (3, 'bounces', 'Finished execution of bounces with result: Success (0)'), (NULL, NULL, 'Finishing scheduled jobs execution.');""")
    got = json.loads(site.ok("backlog"))
    mail = got["mail"]
    t.equal([mail[k] for k in ("pending", "lost_24h", "delivered_1h", "bounced_1h", "on_hold_24h", "paused")], [2 + 5 + 1, 2, 1, 3, 1, 1])
    assert 60 <= mail["oldest_due_s"] < 600, mail
    t.equal(mail["by_status"], {"Paused": 1, "Running": 1, "Scheduled": 2})
    t.equal(got["missing"], [])
    jobs = {j["name"]: j for j in got["civicrm"]}
    t.equal([(n, j["failures_24h"], j["unfinished_24h"], j["last_success"] is not None) for n, j in sorted(jobs.items())],
            [("bounces", 0, 1, True), ("later", 0, 0, False), ("mail", 0, 0, False), ("other", 1, 0, False), ("reminders", 0, 0, False)])
    t.equal([got["runs"]["begun_24h"], got["runs"]["finished_24h"]], [1, 1])


def test_backlog_of_what_is_held(t):
    """Mail that we paused still waits; what an administrator paused does not."""
    site = Site(t, TABLES + MAILINGS)
    site.sql("INSERT INTO civicrm_mailing_recipients (mailing_id) VALUES (2),(2); INSERT INTO civicrm_mailing_event_queue (job_id) VALUES (3),(8)")
    before = json.loads(site.ok("backlog"))["mail"]
    t.equal((before["pending"], before["paused"]), (3, 1))
    site.ok("hold-mail")
    held = json.loads(site.ok("backlog"))["mail"]
    before["oldest_due_s"] = held["oldest_due_s"] = held["oldest_due_s"] >= before["oldest_due_s"]
    t.equal(held, before)


def test_backlog_elsewhere(t):
    site = Site(t, tables="")
    got = json.loads(site.ok("backlog"))
    t.equal(got["civicrm"], [])
    t.contains(got["missing"], "civicrm_mailing_job")
    t.contains(got["missing"], "civicrm_job")


def test_url(t):
    web = Web(t)
    t.write("body", "name=admin&pass=hidden")
    site = Site(t, tables="", more=f"""
[job cron]
schedule = @hourly
url = {web.url}/cron.php?key=hidden
method = POST
header = "X-Key: hidden" "Content-Type: application/x-www-form-urlencoded"
body_file = {t.path("body")}
failure_text = .
""")
    done = site.run("url", "cron")
    t.equal((done.returncode, done.stdout, done.stderr), (0, "", ""))
    method, path, headers, body = web.asked[0]
    t.equal((method, path, headers["X-Key"], body), ("POST", "/cron.php?key=hidden", "hidden", "name=admin&pass=hidden"))
    web.body = "\nERROR: wrong key\n"
    done = site.run("url", "cron")
    t.equal(done.returncode, 1)
    t.contains(done.stderr, "HTTP status 200, but the answer says: ERROR: wrong key")
    web.status = 500
    done = site.run("url", "cron")
    t.equal(done.returncode, 1)
    t.contains(done.stderr, f"HTTP status 500 from {web.url}: ERROR: wrong key")
    t.lacks(done.stderr, "hidden")
    web.server.shutdown()
    web.server.server_close()
    done = site.run("url", "cron")
    t.equal(done.returncode, 69)
    t.lacks(done.stderr, "hidden")
    t.equal(site.run("url", "nope").returncode, 78)


def test_hook_and_ping(t):
    web = Web(t)
    site = Site(t, tables="", more=f"""
[jobs]
ping = {web.url}/all
on_failure = {web.url}/failed
[job one]
schedule = @hourly
command = true
ping = {web.url}/one?x=1
""")
    for state in ("start", "success", "fail"):
        site.ok("ping", "job:one", state, input="why")
    site.ok("ping", "job:other", "success", input="")
    site.ok("ping", f"{web.url}/given", "start", input="")
    t.equal([a[1] for a in web.asked], ["/one/start?x=1", "/one?x=1", "/one/fail?x=1", "/all", "/given/start"])
    t.equal([a[3] for a in web.asked], ["why", "why", "why", "", ""])
    web.asked.clear()
    site.ok("hook", "jobs", input='{"a": 1}')
    t.equal([(a[0], a[1], a[2]["Content-Type"], a[3]) for a in web.asked], [("POST", "/failed", "application/json", '{"a": 1}')])
    web.status = 404
    done = site.run("hook", "jobs", input="{}")
    t.equal(done.returncode, 1)
    t.contains(done.stderr, "HTTP status 404")


def test_usage(t):
    for args, code in (((), 64), (("nothing",), 64), (("gate",), 64), (("verdict",), 78), (("--help",), 0), (("--version",), 0)):
        t.equal(t.run(civitest.program("civinit-jobs-helper"), *args, env={"CIVINIT_CONFIG_DIR": t.dir}).returncode, code, args)


civitest.main(globals())
