#!/usr/bin/env python3
"""civinit-statusd: what it answers, leaves in files and pushes; read by Prometheus' own programs."""
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import civitest

STATUSD = civitest.program("civinit-statusd")
PYTHON = "/usr/bin/python3"
OPEN = {"Accept": "application/openmetrics-text; version=1.0.0"}

JOBS = {
    "updated": 1767225600000, "instance": "demo", "hold": None,
    "jobs": [
        {"name": "civicrm", "schedule": "*/5 * * * *", "next": 1767225900000, "running": False, "last_success": 1767225500000,
         "runs": {"success": 40, "failure": 2}, "last": {"started": 1767225490000, "ended": 1767225500500, "outcome": "failure",
                                                         "exit": 0, "signal": 0, "duration_ms": 10500, "rss_kb": 61440,
                                                         "cpu_ms": 420, "reason": "1 job failed"}},
        {"name": "never \"ran\"", "schedule": "@daily", "next": 1767290000000, "running": True, "last_success": 0, "runs": {},
         "last": None}],
    "civicrm": [{"name": "process_mailing", "last_success": 1767225500000, "failures_24h": 3, "unfinished_24h": 1}],
    "mail": {"pending": 12, "oldest_due_s": 700, "lost_24h": 0}}
BACKUP = {
    "updated": 1767225600000, "instance": "demo", "last_success": 1767220000000,
    "last": {"started": 1767219000000, "ended": 1767220000000, "outcome": "success", "reason": "", "file": "demo.tar.gz",
             "bytes": 1234567, "raw_bytes": 7654321, "entries": 4321, "warnings": 2, "verified": True}}


def status_text(services=(), state="ready", pid=None, reason=""):
    lines = ["civinit 1", f"container role=web state={state} started=1767225600000 pid={pid or os.getpid()} main=apache reason={reason}"]
    for name, values in services:
        full = {"kind": "service", "state": "ready", "pid": 0, "since": 1767225600120, "restarts": 0, "ready_ms": 120, "exit": -1,
                "signal": 0, "unhealthy": 0, "status": "", "reason": ""}
        full.update(values)
        lines.append(f"service name={name} " + " ".join(f"{k}={v}" for k, v in full.items()))
    return "\n".join(lines) + "\n"


class Statusd:
    def __init__(self, t, *arguments, config="", **files):
        self.t = t
        self.run_dir = t.path("run")
        self.state_dir = t.path("state")
        os.makedirs(self.run_dir, exist_ok=True)
        os.makedirs(self.state_dir, exist_ok=True)
        self.config = t.write("web.ini", f"[container]\ninstance = demo\n[status]\nlisten = 127.0.0.1:0\nstate_dirs = {self.state_dir}\n"
                                         f"{config}")
        self.env = {"CIVINIT_RUN_DIR": self.run_dir}

    def tell(self, *services, **options):
        self.put("run/status", status_text(services, **options))

    def put(self, name, text):
        """Replaced as a whole, as the writers do."""
        new = self.t.write(name + ".new", text if isinstance(text, str) else json.dumps(text))
        os.rename(new, self.t.path(name))

    def start(self):
        self.process = self.t.start(STATUSD, "--config", self.config, env=self.env)
        self.port = int(self.process.wait_text(r"listening on port (\d+)")[1])
        return self

    def get(self, path, headers=None, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as r:
                return r.status, r.read().decode(), r.headers
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode(), e.headers

    def metrics(self, **options):
        return self.get("/metrics", **options)[1]


def value(t, text, name):
    """The value of one sample, written with its labels."""
    return float(t.match(text, "^" + re.escape(name) + r" (\S+)$")[1])


def promtool_check(t, text):
    if not shutil.which("promtool"):
        raise civitest.Skip("no promtool")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=120)
    t.equal((done.returncode, done.stdout + done.stderr), (0, ""), "promtool check metrics")


def test_probes_follow_the_status_file(t):
    s = Statusd(t)
    s.tell(("apache", {}), ("router", {}))
    s.start()
    t.equal(s.get("/livez")[:2], (200, "ok\n"))
    t.equal(s.get("/readyz")[:2], (200, "ok\n"))
    t.equal(s.get("/readyz?verbose")[:2], (200, "[+] apache ready\n[+] router ready\ncontainer ready\nok\n"))
    s.tell(("apache", {"state": "starting"}), ("router", {"state": "backoff", "reason": "exited%20with%201"}), state="starting")
    code, text, _ = s.get("/readyz")
    t.equal(code, 503)
    t.contains(text, "[-] apache starting\n[-] router backoff: exited with 1\n")
    t.equal(s.get("/livez")[0], 200)
    s.tell(("apache", {}), state="draining", reason="SIGTERM")
    t.equal((s.get("/readyz")[0], s.get("/livez")[0]), (503, 200))
    os.unlink(t.path("run/status"))
    code, text, _ = s.get("/livez")
    t.equal((code, s.get("/readyz")[0]), (503, 503))
    t.contains(text, "status")
    s.tell(pid=(1 << 22) + 1)  # a file left by a process that is gone: no process has such a number
    t.equal((s.get("/livez")[0], s.get("/readyz")[0]), (503, 503))


def test_other_requests(t):
    s = Statusd(t)
    s.tell()
    s.start()
    t.equal(s.get("/nothing")[0], 404)
    t.equal(s.get("/livez", method="POST")[0], 405)
    code, text, headers = s.get("/metrics", method="HEAD")
    t.equal((code, text), (200, ""))
    t.contains(s.get("/")[1], "/metrics")
    t.equal(s.get("/metrics", headers=OPEN)[2]["Content-Type"], "application/openmetrics-text; version=1.0.0; charset=utf-8")
    t.equal(s.get("/metrics")[2]["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")


def test_metrics_of_services(t):
    s = Statusd(t)
    s.tell(("apache", {"restarts": 3, "exit": 1, "ready_ms": 1250}), ("router", {"state": "failed", "signal": 9, "ready_ms": -1}))
    s.start()
    text = s.metrics()
    promtool_check(t, text)
    t.equal(value(t, text, 'civinit_service_state{service="apache",state="ready"}'), 1)
    t.equal(value(t, text, 'civinit_service_state{service="apache",state="failed"}'), 0)
    t.equal(value(t, text, 'civinit_service_state{service="router",state="failed"}'), 1)
    t.equal(value(t, text, 'civinit_service_restarts_total{service="apache"}'), 3)
    t.equal(value(t, text, 'civinit_service_ready_duration_seconds{service="apache"}'), 1.25)
    t.lacks(text, 'civinit_service_ready_duration_seconds{service="router"}')
    t.equal(value(t, text, 'civinit_service_last_exit_code{service="apache"}'), 1)
    t.equal(value(t, text, 'civinit_service_last_exit_code{service="router"}'), 137)
    t.match(text, r'^civinit_info\{version="[^"]+",role="web",main="apache",instance_name="demo"\} 1$')


def test_openmetrics_is_parsed_by_a_strict_reader(t):
    s = Statusd(t)
    s.tell(("apache", {"restarts": 3}))
    s.put("state/jobs.json", JOBS)
    s.put("state/backup.json", BACKUP)
    s.start()
    text = s.metrics(headers=OPEN)
    t.equal(text.splitlines()[-1], "# EOF")
    check = ("import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as p\n"
             "print(sum(len(f.samples) for f in p(sys.stdin.read())))")
    if subprocess.run([PYTHON, "-c", "import prometheus_client"], capture_output=True, timeout=60).returncode:
        raise civitest.Skip("no python3-prometheus-client")
    done = subprocess.run([PYTHON, "-c", check], input=text, capture_output=True, text=True, timeout=60)
    t.equal(done.returncode, 0, done.stderr)
    t.equal(int(done.stdout), sum(not line.startswith("#") for line in text.splitlines()), "samples")


def test_memory_and_processes_belong_to_their_service(t):
    hold = ("import os, sys, time\nkeep = bytearray(64 << 20)\nfor i in range(0, len(keep), 4096): keep[i] = 1\n"
            "print('held', flush=True)\ntime.sleep(1000)")
    tree = t.start(sys.executable, "-c", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', '''{hold}'''])")
    other = t.start("sleep", "1000")
    tree.wait_text("^held$")
    s = Statusd(t)
    s.tell(("tree", {"pid": tree.pid}), ("other", {"pid": other.pid}), ("none", {"state": "down"}))
    s.start()
    text = s.metrics()
    t.equal(value(t, text, 'civinit_service_processes{service="tree"}'), 2)
    t.equal(value(t, text, 'civinit_service_processes{service="other"}'), 1)
    t.equal(value(t, text, 'civinit_service_processes{service="none"}'), 0)
    for kind in ("resident", "proportional"):
        of_tree = value(t, text, f'civinit_service_{kind}_memory_bytes{{service="tree"}}')
        of_other = value(t, text, f'civinit_service_{kind}_memory_bytes{{service="other"}}')
        assert of_tree > 64 << 20 and of_other < 64 << 20, (kind, of_tree, of_other)
    assert value(t, text, 'civinit_service_cpu_seconds_total{service="tree"}') > 0
    assert value(t, text, 'civinit_service_processes{service="civinit"}') >= 1


def test_orphans_stay_with_their_session(t):
    pids = t.path("pids")
    # The service's first process goes on; its child ends and leaves a grandchild to whoever reaps.
    service = t.start("sh", "-c", f"(sleep 1000 & echo $! >{pids}.new; mv {pids}.new {pids}) & wait; sleep 1000")
    civitest.wait_for("the grandchild", lambda: os.path.exists(pids))
    s = Statusd(t)
    s.tell(("service", {"pid": service.pid}))
    s.start()
    # sh, its own sleep (once the subshell has ended), and the orphan.
    civitest.wait_for("three processes", lambda: value(t, s.metrics(), 'civinit_service_processes{service="service"}') == 3)


def test_jobs_and_backups(t):
    s = Statusd(t)
    s.tell()
    s.put("state/jobs.json", JOBS)
    s.put("state/backup.json", BACKUP)
    s.start()
    text = s.metrics()
    promtool_check(t, text)
    for name, want in {
            'civinit_job_runs_total{job_name="civicrm",instance_name="demo",outcome="failure"}': 2,
            'civinit_job_last_outcome{job_name="civicrm",instance_name="demo",outcome="failure"}': 1,
            'civinit_job_last_outcome{job_name="civicrm",instance_name="demo",outcome="success"}': 0,
            'civinit_job_last_success_timestamp_seconds{job_name="civicrm",instance_name="demo"}': 1767225500,
            'civinit_job_last_duration_seconds{job_name="civicrm",instance_name="demo"}': 10.5,
            'civinit_job_last_peak_memory_bytes{job_name="civicrm",instance_name="demo"}': 61440 * 1024,
            'civinit_job_last_cpu_seconds{job_name="civicrm",instance_name="demo"}': 0.42,
            'civinit_job_next_run_timestamp_seconds{job_name="civicrm",instance_name="demo"}': 1767225900,
            'civinit_job_last_success_timestamp_seconds{job_name="never \\"ran\\"",instance_name="demo"}': 0,
            'civinit_job_running{job_name="never \\"ran\\"",instance_name="demo"}': 1,
            'civinit_civicrm_job_recent_failures{job_name="process_mailing",instance_name="demo"}': 3,
            'civinit_civicrm_job_recent_unfinished{job_name="process_mailing",instance_name="demo"}': 1,
            'civinit_mail_pending_recipients{instance_name="demo"}': 12,
            'civinit_mail_oldest_due_seconds{instance_name="demo"}': 700,
            'civinit_mail_recent_lost_recipients{instance_name="demo"}': 0,
            'civinit_jobs_held{folder="0",instance_name="demo"}': 0,
            'civinit_backup_last_success_timestamp_seconds{instance_name="demo"}': 1767220000,
            'civinit_backup_last_duration_seconds{instance_name="demo"}': 1000,
            'civinit_backup_last_size_bytes{instance_name="demo"}': 1234567,
            'civinit_backup_last_entries{instance_name="demo"}': 4321,
            'civinit_backup_last_verified_timestamp_seconds{instance_name="demo"}': 1767220000,
            'civinit_status_problems': 0}.items():
        t.equal(value(t, text, name), want, name)
    s.put("state/jobs.json", dict(JOBS, hold="upgrade pending"))
    t.equal(value(t, s.metrics(), 'civinit_jobs_held{folder="0",instance_name="demo"}'), 1)
    status = json.loads(s.get("/status")[1])
    t.equal(status["jobs"][0]["hold"], "upgrade pending")
    t.equal(status["jobs"][0]["jobs"][0]["last"]["outcome"], "failure")
    t.equal(status["jobs"][0]["jobs"][1]["last"], None)
    t.equal(status["backups"][0]["entries"], 4321)


FORWARD = {"server": "fluentd:24224", "connected": True, "delivered": 1000, "dropped": 7, "resent": 5, "waiting": 30,
           "unacknowledged": 20, "bytes": 4000, "limit": 65536, "connections": 2, "problem": ""}


def test_forwarded_records(t):
    s = Statusd(t)
    s.tell()
    s.put("run/forward.json", dict(FORWARD, updated=1767225600001, pid=os.getpid()))
    s.start()
    text = s.metrics()
    promtool_check(t, text)
    for name, want in {"connected": 1, "connections_total": 2, "delivered_records_total": 1000, "dropped_records_total": 7,
                       "resent_records_total": 5, "waiting_records": 30, "unacknowledged_records": 20, "buffer_bytes": 4000,
                       "buffer_limit_bytes": 65536}.items():
        t.equal(value(t, text, f"civinit_forward_{name}"), want, name)
    t.equal(json.loads(s.get("/status")[1])["forward"]["server"], "fluentd:24224")
    # Killed: it could not say so.
    s.put("run/forward.json", dict(FORWARD, updated=1767225600001, pid=(1 << 22) + 1))
    t.equal(value(t, s.metrics(), "civinit_forward_connected"), 0)
    # Left by the container before this one.
    s.put("run/forward.json", dict(FORWARD, updated=1767225599999, pid=os.getpid()))
    t.lacks(s.metrics(), "civinit_forward")
    t.equal(json.loads(s.get("/status")[1])["forward"], None)
    s.put("run/forward.json", "{")
    t.equal(value(t, s.metrics(), "civinit_status_problems"), 1)


def test_broken_state_files_are_counted_and_do_no_harm(t):
    s = Statusd(t)
    s.tell()
    s.start()
    for text in ("{", "[]", "", "\x00\x01", '{"jobs": 5, "civicrm": {}, "mail": []}', '{"jobs": [1, null, {"runs": [], "last": 7}]}'):
        s.put("state/jobs.json", text)
        s.put("state/backup.json", text)
        code, metrics, _ = s.get("/metrics")
        t.equal(code, 200)
        promtool_check(t, metrics)
        t.equal(value(t, metrics, "civinit_status_problems") > 0, not text.startswith('{"'), text)
        json.loads(s.get("/status")[1])
    s.put("run/status", "nonsense\n")
    t.equal(s.get("/readyz")[0], 503)
    t.equal(s.get("/metrics")[0], 200)


def test_status_is_json_with_awkward_texts(t):
    s = Statusd(t)
    s.tell(("a%20b", {"status": "%22quoted%22%0Aline%C3%A9"}), state="ready", reason="x%09y")
    s.start()
    got = json.loads(s.get("/status")[1])
    t.equal(got["services"][0]["name"], "a b")
    t.equal(got["services"][0]["status"], "\"quoted\"\nline\u00e9")
    t.equal(got["container"]["reason"], "x\ty")
    promtool_check(t, s.metrics())


def test_many_scrapers_at_once(t):
    s = Statusd(t)
    s.tell(*[(f"s{i}", {}) for i in range(20)])
    s.start()
    answers = []

    def scrape():
        for _ in range(10):
            answers.append(s.get("/metrics")[0])
    threads = [threading.Thread(target=scrape) for _ in range(8)]
    for th in threads:
        th.start()
    for th in threads:
        th.join(120)
    t.equal(answers, [200] * 80)
    with open(f"/proc/{s.process.pid}/status") as f:
        t.match(f.read(), r"^Threads:\s+1$")


def test_costs_little_memory(t):
    """At most 4 MB, also after it has answered everything a while."""
    if civitest.SAN:
        raise civitest.Skip("a sanitizer's memory is not its own")
    s = under_civinit(t, "[service main]\ncommand = sleep 1000\n" + "".join(f"[service s{i}]\ncommand = sleep 1000\n" for i in range(8)))
    s.put("state/jobs.json", dict(JOBS, jobs=[dict(JOBS["jobs"][0], name=f"job{i}") for i in range(20)]))
    s.put("state/backup.json", BACKUP)
    for _ in range(20):
        for path in ("/metrics", "/status", "/readyz?verbose"):
            s.get(path)
    pid = next(x["pid"] for x in json.loads(s.get("/status")[1])["services"] if x["name"] == "statusd")
    with open(f"/proc/{pid}/status") as f:
        kib = int(t.match(f.read(), r"^VmRSS:\s+(\d+) kB$")[1])
    assert kib * 1024 <= 4_000_000, f"{kib} KiB"


def test_textfile(t):
    s = Statusd(t)
    s.put("state/backup.json", BACKUP)
    done = t.run(STATUSD, "--config", s.config, "--textfile", t.path("civinit.prom"), env=s.env)
    t.equal((done.returncode, done.stderr), (0, ""))
    with open(t.path("civinit.prom")) as f:
        text = f.read()
    promtool_check(t, text)
    t.contains(text, "civinit_backup_last_entries")
    t.lacks(text, "civinit_container")  # that is gone when somebody reads this
    done = t.run(STATUSD, "--config", s.config, "--textfile", "/nonexistent/x.prom", env=s.env)
    t.equal(done.returncode != 0, True)
    t.contains(done.stderr, "/nonexistent")


def test_textfiles_of_many_share_a_folder(t):
    os.makedirs(t.path("node"))
    for instance in ("demo", "../abbey"):
        s = Statusd(t)
        s.put("state/jobs.json", dict(JOBS, instance=instance))
        s.put("state/backup.json", dict(BACKUP, instance=instance))
        for role in ("cron", "backup"):
            extra = "[jobs]\n" if role == "cron" else "[backup]\n"
            config = t.write(f"{role}.ini", "[container]\ninstance = ${NAME}\n" + f"[status]\nstate_dirs = {s.state_dir}\n{extra}")
            done = t.run(STATUSD, "--config", config, "--textfile", t.path("node") + ("/" if role == "cron" else ""),
                         env=dict(s.env, NAME=instance))
            t.equal((done.returncode, done.stderr), (0, ""))
    t.equal(sorted(os.listdir(t.path("node"))), ["civinit-___abbey-backup.prom", "civinit-___abbey-cron.prom",
                                                 "civinit-demo-backup.prom", "civinit-demo-cron.prom"])
    seen = set()
    for name in os.listdir(t.path("node")):
        with open(t.path("node", name)) as f:
            lines = [line.rsplit(" ", 1)[0] for line in f if not line.startswith("#")]
        t.equal(seen & set(lines), set(), "a sample that another file has too")
        seen.update(lines)
        # Of a state folder that both roles use each leaves only its own: the other's is an old copy.
        t.equal({line.split("_")[1] for line in lines} - {"status"}, {"backup"} if "backup" in name else {"job", "jobs", "civicrm", "mail"})
    t.equal([line for line in seen if "next_run" in line or "running" in line], [], "plans of a pod that has gone")


def test_never_is_not_left_behind(t):
    """A container that began with an empty folder does not know when the last success was."""
    s = Statusd(t)
    last = dict(BACKUP["last"], outcome="failure", bytes=0, raw_bytes=0, entries=0, verified=False)
    s.put("state/backup.json", dict(BACKUP, last_success=None, last=last))
    s.put("state/jobs.json", dict(JOBS, jobs=[dict(JOBS["jobs"][0], last_success=None)]))
    text = t.run(STATUSD, "--config", s.config, "--print", env=s.env).stdout
    t.equal(value(t, text, 'civinit_backup_last_success_timestamp_seconds{instance_name="demo"}'), 0)
    t.run(STATUSD, "--config", s.config, "--textfile", t.path("x.prom"), env=s.env)
    with open(t.path("x.prom")) as f:
        left = f.read()
    t.lacks(left, "civinit_backup_last_success")
    t.lacks(left, "civinit_job_last_success")
    t.lacks(left, "civinit_backup_last_raw_bytes")  # a run that failed is not a small backup
    t.contains(left, 'civinit_backup_last_outcome{instance_name="demo",outcome="failure",role="web"} 1')


def test_folders_of_one_instance(t):
    """What two folders tell of one job, one instance's mail and backup: the newer one counts, each sample is there once."""
    s = Statusd(t)
    old = dict(JOBS, updated=1, jobs=[dict(JOBS["jobs"][0], next=5000), dict(JOBS["jobs"][0], name="other")], mail={"pending": 99},
               civicrm=[dict(JOBS["civicrm"][0], failures_24h=9)])
    for name, jobs, backup in (("a", old, dict(BACKUP, updated=1, last_success=1)), ("b", JOBS, BACKUP),
                               ("c", old, dict(BACKUP, updated=1, last_success=1)), ("d", dict(JOBS, instance="abbey"), dict(BACKUP, instance="abbey"))):
        s.put(f"{name}/jobs.json", jobs)
        s.put(f"{name}/backup.json", backup)
    config = t.write("web.ini", "[status]\nstate_dirs = " + " ".join(t.path(n) for n in "abcd") + "\n")
    text = t.run(STATUSD, "--config", config, "--print", env=s.env).stdout
    promtool_check(t, text)
    names = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    t.equal(sorted(n for n in set(names) if names.count(n) > 1), [], "samples that are there twice")
    for name, want in {'civinit_job_next_run_timestamp_seconds{job_name="civicrm",instance_name="demo"}': 1767225900,
                       'civinit_mail_pending_recipients{instance_name="demo"}': 12, 'civinit_mail_pending_recipients{instance_name="abbey"}': 12,
                       'civinit_civicrm_job_recent_failures{job_name="process_mailing",instance_name="demo"}': 3,
                       'civinit_backup_last_success_timestamp_seconds{instance_name="demo"}': 1767220000}.items():
        t.equal(value(t, text, name), want, name)
    t.contains(text, 'civinit_job_last_duration_seconds{job_name="other",instance_name="demo"}')
    t.equal(len(re.findall("^civinit_jobs_held", text, re.M)), 4)


class Gateway(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.got.append((self.path, self.headers["Content-Type"], body))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *a):
        pass


@contextlib.contextmanager
def gateway(answer=200):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.got, server.answer = [], answer
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_push_once(t):
    with gateway() as (server, url):
        s = Statusd(t, config=f"push = {url}\n")
        s.put("state/backup.json", BACKUP)
        done = t.run(STATUSD, "--config", s.config, "--push-once", env=s.env)
        t.equal((done.returncode, done.stderr), (0, ""))
        path, kind, body = server.got[0]
        t.equal((path, kind), ("/metrics/job/civinit/instance/demo/role/web", "text/plain; version=0.0.4; charset=utf-8"))
        t.contains(body, "civinit_backup_last_entries")
    s = Statusd(t, config="push =\ntextfile =\n")  # as the role files have them
    t.equal(t.run(STATUSD, "--config", s.config, "--push-once", env=s.env).returncode, 78)
    with gateway(answer=500) as (server, url):
        s = Statusd(t, config=f"push = {url}/metrics/job/own/token/s3cret\n")
        done = t.run(STATUSD, "--config", s.config, "--push-once", env=s.env)
        t.equal(done.returncode, 69)
        t.contains(done.stderr, "status 500")
        t.lacks(done.stderr, "s3cret")
        t.equal(server.got[0][0], "/metrics/job/own/token/s3cret")
    t.equal(t.run(STATUSD, "--config", Statusd(t).config, "--push-once").returncode, 78)


def test_what_a_one_shot_pod_leaves_when_it_is_stopped(t):
    with gateway() as (server, url):
        s = Statusd(t, config=f"push = {url}\ntextfile = {t.path('left.prom')}\n")
        s.tell(("backup", {}))
        s.start()
        s.put("state/backup.json", BACKUP)  # the job's last act
        s.process.signal(signal.SIGTERM)
        t.equal(s.process.wait(), 0, s.process.text())
        t.contains(server.got[0][2], "civinit_backup_last_success_timestamp_seconds")
    with open(t.path("left.prom")) as f:
        t.contains(f.read(), 'civinit_backup_last_outcome{instance_name="demo",outcome="success",role="web"} 1')


def test_report(t):
    s = Statusd(t)
    done = t.run(STATUSD, "report", "--config", s.config, env=s.env)
    t.equal(done.returncode != 0, True)
    t.contains(done.stderr, "no history")
    service = t.start("sleep", "1000")
    s.tell(("apache", {"pid": service.pid}), ("router", {"state": "down"}))
    s.start()
    s.metrics()
    s.process.signal(signal.SIGTERM)
    t.equal(s.process.wait(), 0, s.process.text())
    done = t.run(STATUSD, "report", "--config", s.config, env=s.env)
    t.equal((done.returncode, done.stderr), (0, ""))
    t.match(done.stdout, r"^apache +[0-9.]+ MiB +[0-9.]+ MiB +[0-9.]+ MiB ")
    t.lacks(done.stdout, "router")  # it used nothing
    t.match(done.stdout, r"requests\.memory: \d+Mi ")
    t.match(done.stdout, r"limits\.memory: +\d+Mi ")
    t.contains(done.stdout, "Less than a day")
    got = json.loads(t.run(STATUSD, "report", "--config", s.config, "--json", env=s.env).stdout)
    t.equal([x["name"] for x in got["services"]], ["container", "apache", "civinit"])
    t.equal(got["advice"]["trusted"], False)
    assert got["advice"]["memory_request_bytes"] > 0, got
    s.tell(("apache", {}))
    done = t.run(civitest.program("civinit"), "report", env=s.env)
    t.equal((done.returncode, done.stderr), (0, ""))
    t.match(done.stdout, r"^apache +[0-9.]+ MiB ")
    s.start()  # goes on where it was
    s.metrics()
    s.process.signal(signal.SIGTERM)
    t.equal(s.process.wait(), 0)
    again = json.loads(t.run(STATUSD, "report", "--config", s.config, "--json", env=s.env).stdout)
    assert again["watched_s"] > got["watched_s"] and again["since"] == got["since"], (got, again)
    t.write("run/history", "nonsense\n")
    t.equal(t.run(STATUSD, "report", "--config", s.config, env=s.env).returncode, 65)
    s.start()
    s.process.wait_text("a new history begins")


def test_wrong_configuration(t):
    done = t.run(STATUSD, "--listen", "nonsense")
    t.equal(done.returncode, 78)
    t.contains(done.stderr, "nonsense")
    t.equal(t.run(STATUSD, "--config", t.write("bad.ini", "[status]\nlissten = :1\n")).returncode, 78)
    t.equal(t.run(STATUSD, "--nonsense").returncode, 64)
    s = Statusd(t)
    s.tell()
    s.start()
    done = t.run(STATUSD, "--listen", f"127.0.0.1:{s.port}")
    t.equal(done.returncode, 69)
    t.contains(done.stderr, "in use")


def test_all_addresses_of_both_families(t):
    s = Statusd(t)
    s.tell()
    s.process = t.start(STATUSD, "--listen", ":0", env=s.env)
    s.port = int(s.process.wait_text(r"listening on port (\d+)")[1])
    t.equal(s.get("/livez")[0], 200)
    with contextlib.suppress(OSError), socket.create_connection(("::1", s.port), 60) as c:
        c.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        t.contains(c.makefile().read(), "200 OK")


def under_civinit(t, services, config=""):
    """A real civinit with these sections and statusd as one of its services; (its process, a Statusd to ask)."""
    s = Statusd(t)
    ini = t.write("role.ini", f"[container]\nrun_dir = {s.run_dir}\ninstance = demo\nmain = main\ngrace = 30s\n"
                              f"[status]\nlisten = 127.0.0.1:0\nstate_dirs = {s.state_dir}\n{config}\n"
                              f"[service statusd]\ncommand = {STATUSD} --config {t.path('role.ini')}\n{services}\n")
    s.process = t.start(civitest.program("civinit"), ini, env={"CIVINIT_RUN_DIR": s.run_dir})
    t.defer(s.process.stop)
    s.port = int(s.process.wait_text(r"listening on port (\d+)")[1])
    return s


def test_under_a_real_civinit(t):
    gate = t.path("gate")
    s = under_civinit(t, "[service main]\ncommand = sleep 1000\n"
                         f"[service late]\ncommand = sleep 1000\nready = exec:test -e {gate}\nready_timeout = 150s\n")
    civitest.wait_for("the main service", lambda: "[+] main ready" in s.get("/readyz?verbose")[1])
    code, text, _ = s.get("/readyz?verbose")
    t.equal(code, 503)
    t.contains(text, "[-] late starting")
    t.equal(s.get("/livez")[0], 200)
    t.write("gate", "")
    civitest.wait_for("the container to be ready", lambda: s.get("/readyz")[0] == 200)
    text = s.metrics()
    promtool_check(t, text)
    for name in ("main", "late", "statusd"):
        t.equal(value(t, text, f'civinit_service_state{{service="{name}",state="ready"}}'), 1)
        t.equal(value(t, text, f'civinit_service_processes{{service="{name}"}}'), 1)
    assert value(t, text, 'civinit_service_resident_memory_bytes{service="civinit"}') > 0
    pids = {x["name"]: x["pid"] for x in json.loads(s.get("/status")[1])["services"]}
    os.kill(pids["late"], signal.SIGKILL)
    civitest.wait_for("the restart to be counted", lambda: value(t, s.metrics(), 'civinit_service_restarts_total{service="late"}') == 1)
    t.match(s.metrics(), r'^civinit_service_last_exit_code\{service="late"\} 137$')
    s.process.signal(signal.SIGTERM)
    s.process.wait()


def test_readyz_says_what_is_waited_for(t):
    """For each service that is not ready, what it waits for, and what stands in the way there."""
    port = civitest.free_port()
    s = under_civinit(t, f"""[service main]
command = sleep 1000
[service server]
command = sleep 1000
ready = tcp:127.0.0.1:{port}
ready_timeout = 150s
[service page]
command = sleep 1000
after = server
[service word]
command = sleep 1000
ready = notify
ready_timeout = 150s
[service asked]
command = sleep 1000
ready = exec:sh -c 'echo still warming up; exit 1'
ready_timeout = 150s
[task wait]
command = {civitest.program("civinit-probe")} tcp 127.0.0.1:{port} --wait 150s
timeout = 150s
[service crash]
command = sh -c 'exit 3'
restart = always
backoff = 100s
""")
    wanted = ["[-] server starting: not yet: refused: 127.0.0.1:%d: Connection refused" % port, "[-] page down: waits for server",
              "[-] word starting: waits for notify", "[-] asked starting: still warming up",
              "[-] wait starting: not yet: refused: 127.0.0.1:%d: Connection refused" % port]

    def told():
        lines = s.get("/readyz?verbose")[1].splitlines()
        return all(w in lines for w in wanted) and any(line.startswith("[-] crash backoff: exited with 3") for line in lines)
    try:
        civitest.wait_for("every reason", told)
    except civitest.Late as e:
        raise civitest.Late(f"{e}:\n{s.get('/readyz?verbose')[1]}") from None
    t.match(s.get("/readyz")[1], r"^container starting: ")
    listener = socket.create_server(("127.0.0.1", port))
    t.defer(listener.close)
    civitest.wait_for("the page", lambda: "[+] page ready" in s.get("/readyz?verbose")[1])
    text = s.get("/readyz?verbose")[1]
    t.contains(text, "[+] server ready\n")
    t.match(text, r"^\[\+\] wait done: exited with 0 ")


def test_a_one_shot_container_leaves_its_figures(t):
    left = t.path("left.prom")
    t.write("backup.json", json.dumps(BACKUP))
    go = t.path("go")
    s = under_civinit(t, f"[service main]\ncommand = sh -c 'until test -e {go}; do sleep 0.05; done; "
                         f"cp {t.path('backup.json')} {t.path('state')}/backup.json'\nrestart = never\n", f"textfile = {left}")
    t.equal(s.get("/livez")[0], 200)
    t.write("go", "")
    t.equal(s.process.wait(), 0, s.process.text())
    with open(left) as f:
        t.contains(f.read(), 'civinit_backup_last_outcome{instance_name="demo",outcome="success",role="role"} 1')


civitest.main(globals())
