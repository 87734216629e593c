#!/usr/bin/env python3
"""The alert rules, the dashboard and the scrape configuration in config/, by Prometheus' own programs."""
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import civitest

FOLDER = os.path.join(civitest.ROOT, "config/prometheus")
DASHBOARD = os.path.join(civitest.ROOT, "config/grafana/civinit.json")


def promtool(t, *arguments):
    if not shutil.which("promtool"):
        raise civitest.Skip("no promtool")
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=170)
    t.equal(done.returncode, 0, done.stdout + done.stderr)


def test_alert_rules(t):
    promtool(t, "check", "rules", "civinit.rules.yml")
    promtool(t, "test", "rules", "civinit.rules.test.yml")
    with open(os.path.join(FOLDER, "civinit.rules.yml")) as f:
        alerts = re.findall(r"alert: (\S+)", f.read())
    with open(os.path.join(FOLDER, "civinit.rules.test.yml")) as f:
        tested = f.read()
    t.equal([a for a in alerts if not re.search(rf"alertname: {a}\b", tested)], [], "alerts without a test")


def test_scrape_configuration(t):
    """Debian's Prometheus is built without Kubernetes discovery: all else of the file is checked."""
    with open(os.path.join(FOLDER, "prometheus.yml")) as f:
        text = f.read()
    found = "    kubernetes_sd_configs:\n      - role: pod\n"
    t.contains(text, found)
    shutil.copy(os.path.join(FOLDER, "civinit.rules.yml"), t.dir)
    promtool(t, "check", "config", t.write("prometheus.yml", text.replace(found, "    static_configs:\n      - targets: [pod]\n")))


def expressions():
    with open(DASHBOARD) as f:
        board = json.load(f)
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]


def every_metric(t):
    """The names of all metrics that statusd can tell."""
    group = {"cgroup.controllers": "cpu memory\n", "memory.current": "1000\n", "memory.max": "5000\n", "memory.peak": "2000\n",
             "memory.events": "max 3\noom_kill 1\n", "memory.stat": "anon 500\ninactive_file 100\n", "cpu.max": "50000 100000\n",
             "cpu.stat": "usage_usec 5\nnr_periods 5\nnr_throttled 1\nthrottled_usec 3\n", "pids.current": "3\n", "pids.max": "9\n"}
    for resource in ("cpu", "memory", "io"):
        group[f"{resource}.pressure"] = "some avg10=0 avg60=0 avg300=0 total=5\nfull avg10=0 avg60=0 avg300=0 total=2\n"
    for name, text in group.items():
        t.write(f"cgroup/{name}", text)
    t.write("run/status", f"civinit 1\ncontainer role=web state=ready started=1 pid={os.getpid()} main=a reason= oom_kills=1\n"
                          f"service name=a kind=service state=ready pid={os.getpid()} since=1 restarts=1 ready_ms=5 exit=0 signal=0 "
                          "unhealthy=0 status= reason=\n")
    t.write("state/jobs.json", json.dumps({
        "updated": 1, "instance": "i", "hold": None, "civicrm": [{"name": "c", "last_success": 1, "failures_24h": 0, "unfinished_24h": 0}],
        "jobs": [{"name": "j", "schedule": "", "next": 1, "running": False, "last_success": 1, "runs": {"success": 1}, "last": {
            "started": 1, "ended": 2, "outcome": "success", "exit": 0, "signal": 0, "duration_ms": 1, "rss_kb": 1, "cpu_ms": 1,
            "reason": ""}}], "mail": {"pending": 0, "oldest_due_s": 0, "lost_24h": 0}}))
    t.write("state/backup.json", json.dumps({
        "updated": 1, "instance": "i", "last_success": 1, "last": {"started": 1, "ended": 2, "outcome": "success", "reason": "",
                                                                   "file": "f", "bytes": 1, "raw_bytes": 1, "entries": 1, "warnings": 0,
                                                                   "verified": True}}))
    t.write("run/forward.json", json.dumps({
        "updated": 1, "pid": os.getpid(), "server": "s", "connected": True, "delivered": 1, "dropped": 0, "resent": 0, "waiting": 0,
        "unacknowledged": 0, "bytes": 0, "limit": 1, "connections": 1, "problem": ""}))
    config = t.write("web.ini", f"[status]\nstate_dirs = {t.path('state')}\n")
    done = t.run(civitest.program("civinit-statusd"), "--config", config, "--print",
                 env={"CIVINIT_RUN_DIR": t.path("run"), "CIVINIT_CGROUP_ROOT": t.path("cgroup")})
    t.equal(done.returncode, 0, done.stderr)
    return {line.split("{")[0].split(" ")[0] for line in done.stdout.splitlines() if not line.startswith("#")}


def test_rules_and_dashboard_name_metrics_that_exist(t):
    known = every_metric(t)
    with open(os.path.join(FOLDER, "civinit.rules.yml")) as f:
        rules = " ".join(re.findall(r"expr: (.*)", f.read()))
    used = set(re.findall(r"civinit_[a-z0-9_]+", rules + " ".join(expressions())))
    t.equal(sorted(used - known), [], "metrics that statusd does not have")


civitest.main(globals())
