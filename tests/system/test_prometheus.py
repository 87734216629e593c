#!/usr/bin/env python3
"""From real jobs and backups to alerts: Debian's prometheus, prometheus-pushgateway and
prometheus-node-exporter, with the rules of config/prometheus as they are."""
import contextlib
import json
import os
import re
import shutil
import sys
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import backupdata
import civitest
import mariadb
from civicrmtables import MAILINGS, TABLES
from mariadb import shared_end  # noqa: F401

STATUSD = civitest.program("civinit-statusd")
RULES = os.path.join(civitest.ROOT, "config/prometheus/civinit.rules.yml")
DASHBOARD = os.path.join(civitest.ROOT, "config/grafana/civinit.json")
WAIT = 120


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            raise civitest.Skip(f"no {p}")


def api(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as r:
        return json.load(r)["data"]


class Prometheus:
    """Scrapes {job: port, …} each second, with the alert rules."""

    def __init__(self, t, **targets):
        need("prometheus")
        self.port = civitest.free_port()
        jobs = "".join(f"  - job_name: {job}\n    honor_labels: {'true' if job == 'pushed' else 'false'}\n    static_configs:\n"
                       f"      - targets: [{', '.join(f'127.0.0.1:{p}' for p in (ports if isinstance(ports, list) else [ports]))}]\n"
                       for job, ports in targets.items())
        config = t.write("prometheus.yml", f"global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [{RULES}]\n"
                                           f"scrape_configs:\n{jobs}")
        self.process = t.start("prometheus", f"--config.file={config}", f"--storage.tsdb.path={t.path('tsdb')}",
                               f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn")

    def query(self, expression):
        """[(labels, value)]; none also while Prometheus starts."""
        with contextlib.suppress(OSError):
            got = api(self.port, "/api/v1/query?query=" + urllib.parse.quote(expression))
            return [(s["metric"], float(s["value"][1])) for s in got["result"]]
        return []

    def wait_value(self, expression, want):
        try:
            civitest.wait_for(f"{expression} to be {want}", lambda: [v for _, v in self.query(expression)] == [want], WAIT, every=0.2)
        except civitest.Late as e:
            raise civitest.Late(f"{e}; it is {self.query(expression)}") from None

    def alerts(self):
        """{name: [(state, labels)]}, state: pending or firing."""
        found = {}
        for a in api(self.port, "/api/v1/alerts")["alerts"]:
            found.setdefault(a["labels"]["alertname"], []).append((a["state"], a["labels"]))
        return found


def one_shot(t, name, instance, text, state, want=0):
    """Runs a container of one job to its end, statusd beside it. Its state folder is new, as an emptyDir is."""
    shutil.rmtree(state, ignore_errors=True)
    run_dir = t.path(f"run.{instance}.{name}")
    ini = t.write(f"{instance}/{name}.ini", f"[container]\nmain = main\ngrace = 60s\ninstance = {instance}\nrun_dir = {run_dir}\n"
                                            f"[service statusd]\ncommand = {STATUSD} --config {t.path(instance, name + '.ini')}\n"
                                            f"ready = tcp:127.0.0.1:PORT\n{text}".replace("PORT", str(civitest.free_port())))
    with open(ini) as f:
        port = re.search(r"127\.0\.0\.1:(\d+)", f.read())[1]
    with open(ini, "a") as f:
        f.write(f"[status]\nlisten = 127.0.0.1:{port}\npush = {one_shot.gateway}\ntextfile = {one_shot.folder}/\n")
    done = t.run(civitest.program("civinit"), ini, seconds=150, env={"CIVINIT_RUN_DIR": run_dir})
    t.equal(done.returncode, want, f"{name}: {done.stderr}")


def cron(t, server, password, database, outcome, want):
    """A run of CiviCRM's jobs as it leaves its traces in the database."""
    log = [("NULL", "NULL", "Starting scheduled jobs execution"), ("1", "'mail'", "Starting execution of mail"),
           ("1", "'mail'", f"Finished execution of mail with result: {outcome}"), ("NULL", "NULL", "Finishing scheduled jobs execution.")]
    sql = t.write("log.sql", "SET time_zone = '+00:00';" + "".join(
        f"INSERT INTO civicrm_job_log (job_id, name, description) VALUES ({i}, {n}, '{text}');\n" for i, n, text in log))
    state = t.path("state.cron")
    one_shot(t, "cron", "parish", f"""[database]
socket = {server.socket}
user = site
password_file = {password}
[civicrm]
database = {database}
[jobs]
state_dir = {state}
[job civicrm]
schedule = */5 * * * *
verdict = civicrm
shell = mariadb --no-defaults --socket={server.socket} --user=root {database} <{sql}
[service main]
command = {civitest.program("civinit-jobs")} --config {t.path("parish/cron.ini")} run --once
after = statusd
restart = never
""", state, want)


def backup(t, server, instance, databases="civicrm", want=0):
    state = t.path("state.backup")
    one_shot(t, "backup", instance, f"""[database]
socket = {server.socket}
user = dump
password_file = {server.folder}/password.dump
[backup]
databases = {databases}
files = site={t.path("tree")}
destination = {t.path("archives", instance)}
verify = yes
state_dir = {state}
[service main]
command = {civitest.program("civinit-backup")} create --config {t.path(instance, "backup.ini")}
after = statusd
restart = never
""", state, want)


def test_what_one_shot_pods_leave_becomes_alerts(t):
    """Two instances, cron and backup pods of their own: a good backup, one that fails after it, a failed job, a mail
    backlog; pushed to a Pushgateway and left for node exporter, side by side, and none loses another's figures."""
    need("prometheus", "prometheus-pushgateway", "prometheus-node-exporter")
    server = mariadb.Server.shared()
    backupdata.databases(server)
    backupdata.account(server)
    password = server.account("site", "s3cret", "site")
    server.sql("SET time_zone = '+00:00';" + TABLES + MAILINGS, "site")
    server.sql("INSERT INTO civicrm_mailing_recipients (mailing_id) VALUES (2),(2);"
               "UPDATE civicrm_mailing_job SET scheduled_date = NOW() - INTERVAL 2 HOUR WHERE id = 5", "site")
    t.write("tree/file", "content")
    for name in ("archives/parish", "archives/abbey", "textfiles"):
        os.makedirs(t.path(name))
    gateway, node = civitest.free_port(), civitest.free_port()
    t.start("prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{gateway}")
    t.start("prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile",
            f"--collector.textfile.directory={t.path('textfiles')}", f"--web.listen-address=127.0.0.1:{node}")
    one_shot.gateway, one_shot.folder = f"http://127.0.0.1:{gateway}", t.path("textfiles")
    prometheus = Prometheus(t, pushed=gateway, node=node)
    civitest.wait_for("both to be scraped", lambda: [v for _, v in prometheus.query("up")] == [1, 1], WAIT, every=0.2)

    backup(t, server, "parish")
    backup(t, server, "abbey")
    with open(os.path.join(t.path("textfiles"), "civinit-parish-backup.prom")) as f:
        when = float(t.match(f.read(), r"^civinit_backup_last_success_timestamp_seconds\{.*\} (\S+)$")[1])
    cron(t, server, password, "site", "Echec, Error message: no server", 1)
    backup(t, server, "parish", databases="nowhere", want=66)

    of = {"pushed": 'job="civinit",instance="parish"', "node": f'job="node",instance="127.0.0.1:{node}"'}
    for place, labels in of.items():
        # The latest of each, beside each other.
        prometheus.wait_value(f'civinit_backup_last_outcome{{{labels},instance_name="parish",outcome="failure",role="backup"}}', 1)
        for expression, value in ((f'civinit_job_last_outcome{{{labels},instance_name="parish",job_name="civicrm",outcome="failure",role="cron"}}', 1),
                                  (f'civinit_job_runs_total{{{labels},job_name="civicrm",outcome="failure"}}', 1),
                                  (f'civinit_civicrm_job_recent_failures{{{labels},job_name="mail"}}', 1),
                                  (f'civinit_mail_pending_recipients{{{labels},instance_name="parish"}}', 2)):
            prometheus.wait_value(expression, value)
        t.equal(prometheus.query(f'civinit_job_next_run_timestamp_seconds{{{labels}}}'), [], f"plans of a pod that is gone, {place}")
        t.equal(prometheus.query(f'civinit_job_last_duration_seconds{{{labels}}} >= 0') != [], True, place)
    # The failed backup began with an empty state folder and knows nothing of the good one; the gateway does.
    prometheus.wait_value('civinit_backup_last_success_timestamp_seconds{job="civinit",instance="parish"}', when)
    other = 'instance_name="abbey",role="backup"'
    for expression in (f'civinit_backup_last_outcome{{{other},outcome="success",job="civinit"}} == 1',
                       f'civinit_backup_last_outcome{{{other},outcome="success",job="node"}} == 1',
                       f'civinit_backup_last_entries{{{other},job="node"}} > 1', f'civinit_backup_last_size_bytes{{{other},job="node"}} > 100',
                       f'civinit_backup_last_duration_seconds{{{other},job="node"}} >= 0',
                       f'civinit_backup_last_verified_timestamp_seconds{{{other},job="node"}} > 1700000000'):
        t.equal(len(prometheus.query(expression)), 1, expression)
    t.equal(prometheus.query('push_failure_time_seconds > 0'), [], "refused pushes")
    t.equal(prometheus.query('node_textfile_scrape_error > 0'), [], "textfiles that node exporter cannot read")

    def firing():
        return [labels for state, labels in prometheus.alerts().get("CivinitBackupFailed", []) if state == "firing"]
    civitest.wait_for("the alert of both", lambda: len(firing()) == 2, WAIT, every=0.2)
    t.equal({a["instance_name"] for a in firing()}, {"parish"})
    alerts = prometheus.alerts()
    t.equal({a["instance_name"] for name in ("CivinitJobFailed", "CivinitMailStuck") for _, a in alerts[name]}, {"parish"})
    t.equal(alerts.keys() - {"CivinitBackupFailed", "CivinitJobFailed", "CivinitMailStuck"}, set(), "alerts")


GROUP = {"cgroup.controllers": "cpu memory\n", "memory.current": "950\n", "memory.max": "1000\n", "memory.peak": "990\n",
         "memory.stat": "anon 500\ninactive_file 0\n", "cpu.max": "50000 100000\n", "pids.current": "3\n", "pids.max": "9\n"}


class Bad:
    """A statusd of whose container everything is wrong; its counters grow with each step."""

    def __init__(self, t):
        self.t, self.n, self.raw = t, 0, 10000
        for folder in ("bad/jobs", "bad/shrunk", "bad/broken", "bad/run", "bad/cgroup"):
            os.makedirs(t.path(folder))
        for name, text in GROUP.items():
            t.write(f"bad/cgroup/{name}", text)
        t.write("bad/broken/jobs.json", "{")
        self.step()
        self.config = t.write("bad/web.ini", f"[container]\ninstance = bad\n[status]\nlisten = 127.0.0.1:0\n"
                                             f"state_dirs = {t.path('bad/jobs')} {t.path('bad/shrunk')} {t.path('bad/broken')}\n")
        self.process = t.start(STATUSD, "--config", self.config,
                               env={"CIVINIT_RUN_DIR": t.path("bad/run"), "CIVINIT_CGROUP_ROOT": t.path("bad/cgroup")})
        self.port = int(self.process.wait_text(r"listening on port (\d+)")[1])

    def put(self, name, text):
        os.rename(self.t.write(name + ".new", text if isinstance(text, str) else json.dumps(text)), self.t.path(name))

    def step(self):
        self.n += 10
        n = self.n
        self.put("bad/cgroup/cpu.stat", f"usage_usec {n}000\nnr_periods {n}\nnr_throttled {n // 2}\nthrottled_usec {n}00\n")
        for resource in ("cpu", "memory", "io"):
            self.put(f"bad/cgroup/{resource}.pressure", f"some avg10=0 avg60=0 avg300=0 total={n}00\nfull avg10=0 avg60=0 avg300=0 total={n}0\n")
        self.put("bad/cgroup/memory.events", f"low 0\nhigh 0\nmax {n}\noom {n}\noom_kill {n}\n")
        self.put("bad/run/status", f"civinit 1\ncontainer role=web state=starting started=1 pid={os.getpid()} main=a reason= oom_kills={n}\n"
                                   f"service name=a kind=service state=failed pid={os.getpid()} since=1 restarts={n} ready_ms=5 exit=1 signal=0 "
                                   "unhealthy=2 status= reason=\n")
        self.put("bad/run/forward.json", {
            "updated": 2, "pid": os.getpid(), "server": "s", "connected": False, "delivered": 1, "dropped": n, "resent": n, "waiting": 5,
            "unacknowledged": 0, "bytes": 9, "limit": 10, "connections": 1, "problem": "connect: Connection refused"})
        job = {"name": "j", "schedule": "", "next": 1000, "running": False, "last_success": 1, "runs": {"failure": n, "success": 1}, "last": {
            "started": 1, "ended": 2, "outcome": "failure", "exit": 1, "signal": 0, "duration_ms": 1, "rss_kb": 1, "cpu_ms": 1, "reason": ""}}
        self.put("bad/jobs/jobs.json", {"updated": 1, "instance": "bad", "hold": "no database", "jobs": [job],
                                        "civicrm": [{"name": "c", "last_success": 1, "failures_24h": 5, "unfinished_24h": 1}],
                                        "mail": {"pending": 7, "oldest_due_s": 9000, "lost_24h": 3}})
        last = {"started": 1, "ended": 2, "outcome": "failure", "reason": "", "file": "f", "bytes": 1, "raw_bytes": self.raw, "entries": 1, "warnings": 0, "verified": False}
        self.put("bad/jobs/backup.json", {"updated": 1, "instance": "bad", "last_success": 1, "last": last})
        self.put("bad/shrunk/backup.json", {"updated": 1, "instance": "shrunk", "last_success": 1, "last": dict(last, outcome="success")})


def test_every_alert_and_every_panel(t):
    """Of a container in which everything is wrong every alert is raised, of one that is well none; and every expression
    of the dashboard finds something."""
    need("prometheus", "prometheus-pushgateway")
    bad = Bad(t)
    good_ini = t.write("good/web.ini", f"[container]\nmain = main\ninstance = good\nrun_dir = {t.path('good/run')}\n[status]\nlisten = 127.0.0.1:0\n"
                                       f"state_dirs = {t.path('good')}\n[service statusd]\ncommand = {STATUSD} --config {t.path('good/web.ini')}\n"
                                       "[service main]\ncommand = sleep 1000\n")
    good = t.start(civitest.program("civinit"), good_ini, env={"CIVINIT_RUN_DIR": t.path("good/run")})
    t.defer(good.stop)
    good_port = int(good.wait_text(r"listening on port (\d+)")[1])
    gateway = civitest.free_port()
    t.start("prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{gateway}")

    def pushed():
        with contextlib.suppress(OSError):  # a cron run of long ago
            body = b'civinit_job_last_end_timestamp_seconds{job_name="j",instance_name="old"} 1000\n'
            url = f"http://127.0.0.1:{gateway}/metrics/job/civinit/instance/old/role/cron"
            with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=60) as r:
                return r.status == 200
    civitest.wait_for("the gateway to take a push", pushed, WAIT)
    prometheus = Prometheus(t, civinit=[bad.port, good_port, civitest.free_port()], pushed=gateway)
    with open(RULES) as f:
        rules = re.findall(r"- alert: (\S+)\n((?: {8}.*\n)*)", f.read())
    at_once = {name for name, text in rules if "        for: " not in text}
    assert len(rules) > 15 and at_once, rules
    prometheus.wait_value("civinit_backup_last_raw_bytes", bad.raw)
    bad.raw = 100
    raised = {}

    def all_raised():
        bad.step()
        with contextlib.suppress(OSError):
            raised.clear()
            raised.update(prometheus.alerts())
        return raised.keys() == {name for name, _ in rules} and all(any(s == "firing" for s, _ in raised[name]) for name in at_once)
    try:
        civitest.wait_for("every alert", all_raised, WAIT, every=1)
    except civitest.Late as e:
        raise civitest.Late(f"{e}; missing: {sorted({n for n, _ in rules} - raised.keys())}") from None
    t.equal([a for found in raised.values() for _, a in found if a.get("instance") == f"127.0.0.1:{good_port}"], [], "alerts of what is well")
    for _, found in raised.items():
        for _, labels in found:
            t.equal(labels["severity"] in ("critical", "warning"), True, str(labels))
    empty = []
    with open(DASHBOARD) as f:
        for panel in json.load(f)["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
                if not prometheus.query(expression):
                    empty.append(f"{panel['title']}: {expression}")
    t.equal(empty, [], "panels that show nothing")
    t.equal({m["instance"] for m, _ in prometheus.query('civinit_info{instance_name=~"good|bad"}')},
            {f"127.0.0.1:{bad.port}", f"127.0.0.1:{good_port}"})


civitest.main(globals())
