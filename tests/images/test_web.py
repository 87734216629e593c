#!/usr/bin/env python3
"""The web role in pods: the specs of config/kubernetes, MySQL 9.7, Apache, PHP, mysqlrouter."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import civitest
import pods
import tls

PAGES = {
    # A row from the database, who asked for it, and how the way to the server was encrypted.
    "index.php": """<?php
mysqli_report(MYSQLI_REPORT_OFF);
$db = @new mysqli('localhost', getenv('DATABASE_USER'), trim(file_get_contents('/etc/secrets/database/password')), 'civicrm');
if ($db->connect_errno) { http_response_code(503); exit("$db->connect_errno $db->connect_error"); }
$row = $db->query('SELECT words FROM greeting')->fetch_row()[0];
$tls = $db->query("SHOW STATUS LIKE 'Ssl_version'")->fetch_row()[1];
echo "$row, ", $db->query('SELECT CURRENT_USER()')->fetch_row()[0], ", $tls";
""",
    # Says that it has begun, then waits until it may end.
    "block.php": """<?php
set_time_limit(0);
$group = basename($_GET['group']);
touch(__DIR__ . "/state/$group." . basename($_GET['n']));
while (!file_exists(__DIR__ . "/state/$group.go")) { usleep(10000); clearstatcache(); }
echo 'finished';
""",
    # Holds so much for a moment.
    "memory.php": "<?php $x = str_repeat('x', (int)$_GET['mib'] << 20); usleep(20000); echo strlen($x);",
    "static.txt": "static\n",
    "state/.keep": "",
}
ROW = "hello from the database, civicrm@%, TLSv1.3"
shared = {}


def table(instance, db):
    instance.sql(db, "CREATE TABLE IF NOT EXISTS civicrm.greeting (words TEXT); DELETE FROM civicrm.greeting; "
                     "INSERT INTO civicrm.greeting VALUES ('hello from the database')")


def state_folder(instance):
    path = os.path.join(instance.volume("site"), "state")
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o1777)
    return path


def the_instance():
    """The instance that most tests share: database and web pod, started with the database absent."""
    if "instance" not in shared:
        pods.need()
        shared["instance"] = i = pods.Instance()
        i.site(PAGES)
        state_folder(i)
        shared["web"] = i.play("web.yaml", settings=[("DRAIN", "0s"), ("WORKERS", "3")])
    return shared["instance"]


def the_database():
    i = the_instance()
    if "db" not in shared:
        shared["db"] = i.mysql()
        table(i, shared["db"])
    return shared["db"]


def the_web():
    """The web container, ready, and its address."""
    i = the_instance()
    the_database()
    web = shared["web"]
    wait_ready(web)
    return web, i.address(web)


def wait_ready(web):
    try:
        pods.wait_for(f"{web.name} to be ready", lambda: web.exec("civinit", "ready").returncode == 0)
    except pods.Late as e:
        raise pods.Late(f"{e}\n{web.exec('civinit', 'status').stdout}\n{web.logs()[-4000:]}") from None


def wait_page(address):
    last = [None]

    def look():
        last[0] = pods.get(address, "/index.php")
        return last[0] == (200, ROW)
    try:
        pods.wait_for("the page", look)
    except pods.Late as e:
        raise pods.Late(f"{e}; last: {last[0]}") from None


def status(web):
    """civinit status --json of a container."""
    return json.loads(web.exec("civinit", "status", "--json", check=True).stdout)


def service(web, name):
    return next(s for s in status(web)["services"] if s["name"] == name)


def shared_end():
    if "instance" in shared:
        shared["instance"].close()


class Blocked:
    """Requests to block.php that have begun and wait."""

    def __init__(self, instance, address, group, count, running=None):
        self.state = state_folder(instance)
        self.group = group
        self.answers = [None] * count
        self.threads = [threading.Thread(target=self.ask, args=(address, n), daemon=True) for n in range(count)]
        # One after the other: PHP-FPM (ondemand) may start too few workers for several at the same moment.
        for n, thread in enumerate(self.threads):
            thread.start()
            begun = min(n + 1, running or count)
            pods.wait_for("PHP to work on the request", lambda: len(glob.glob(f"{self.state}/{group}.[0-9]*")) >= begun)

    def ask(self, address, n):
        self.answers[n] = pods.get(address, f"/block.php?group={self.group}&n={n}", seconds=300)

    def finish(self):
        with open(f"{self.state}/{self.group}.go", "w"):
            pass
        for thread in self.threads:
            thread.join(300)
        return self.answers


def test_waits_for_the_database(t):
    """The web pod comes up while there is no database, and is ready when there is one."""
    the_instance()
    web = shared["web"]
    pods.wait_for("civinit to answer", lambda: web.exec("civinit", "live").returncode == 0)
    pods.wait_for("mysqlrouter to be there", lambda: service(web, "mysqlrouter")["state"] == "ready")
    t.equal(web.exec("civinit", "ready").returncode, 1, "civinit ready without a database")
    t.equal(service(web, "apache")["state"], "down", "Apache without a database")
    pods.wait_for("the reason to be told", lambda: "database starting: not yet: " in pods.get(the_instance().address(web), "/readyz?verbose", port=9180)[1])
    code, text = pods.get(the_instance().address(web), "/readyz?verbose", port=9180)
    t.equal(code, 503)
    t.match(text, r"^\[-\] php down: waits for database$")
    t.match(text, r"^\[-\] apache down: waits for php$")
    t.match(text, r"^container starting: database: starting: not yet: ")
    _, address = the_web()
    t.equal(pods.get(address, "/index.php"), (200, ROW))


def test_tls_or_nothing(t):
    """The database takes no connection without TLS, and mysqlrouter verifies its certificate."""
    the_web()
    i = the_instance()
    db = the_database()
    i.sql(db, "CREATE USER plain@'%' IDENTIFIED BY 'plain'")
    login = ["mysql", "--host=127.0.0.1", "--user=plain", "--password=plain", "--get-server-public-key", "--execute", "SELECT 1"]
    t.equal(db.exec(*login).returncode, 0, "with TLS")
    p = db.exec(*login, "--ssl-mode=DISABLED")
    t.equal(p.returncode, 1, "without TLS")
    t.match(p.stderr, r"ERROR (3159|1045)")
    config = shared["web"].exec("cat", "/etc/mysqlrouter/mysqlrouter.conf").stdout
    t.match(config, r"^server_ssl_mode = REQUIRED$")


def test_lines_are_tagged(t):
    """LOG_FORMAT=json: every line of the container is a record that names its service."""
    web, address = the_web()
    pods.get(address, "/static.txt")
    pods.wait_for("Apache's line", lambda: "/static.txt" in web.logs())
    records = [json.loads(line) for line in web.logs().splitlines()]
    t.equal({"civinit", "apache", "mysqlrouter", "php"} - {r["service"] for r in records}, set())
    assert any(r["service"] == "apache" and "GET /static.txt" in r["message"] for r in records)
    t.lacks(web.logs(), the_instance().secret("password"))


def test_metrics(t):
    """What Prometheus gets from the pod: figures that promtool takes, of every service and of the container."""
    if not shutil.which("promtool"):
        raise civitest.Skip("no promtool")
    web, address = the_web()
    code, text = pods.get(address, "/metrics", port=9180)
    t.equal(code, 200)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=120)
    t.equal((done.returncode, done.stdout + done.stderr), (0, ""), "promtool check metrics")
    for name, state in (("mysqlrouter", "ready"), ("database", "done"), ("php", "ready"), ("apache", "ready"), ("statusd", "ready")):
        t.match(text, rf'^civinit_service_state{{service="{name}",state="{state}"}} 1$')
    for name in ("mysqlrouter", "php", "apache"):
        memory = int(t.match(text, rf'^civinit_service_proportional_memory_bytes{{service="{name}"}} (\d+)$')[1])
        assert 1 << 20 < memory < 1 << 30, (name, memory)
    t.match(text, r'^civinit_container_state{state="ready"} 1$')
    assert int(t.match(text, r"^civinit_container_memory_working_set_bytes (\d+)$")[1]) > 1 << 20
    t.equal(pods.get(address, "/readyz", port=9180), (200, "ok\n"))


def test_log_reaches_a_collector(t):
    """config/central/forward.ini as a drop-in: the records of all services arrive over TLS, and the metrics say so."""
    modules = os.path.join(os.environ.get("CIVINIT_NPM") or "/var/cache/civinit-tests/npm", "node_modules/@fluent-org/logger")
    if not shutil.which("node") or not os.path.isdir(modules):
        raise civitest.Skip("no forward server: run tests/forward/setup (needs npm)")
    the_web()
    i = the_instance()
    authority = tls.Authority(t.path("authority"))
    cert, private = authority.server(i.gateway())
    collector = t.start("node", os.path.join(pods.ROOT, "tests/forward/server.js"),
                        json.dumps({"host": i.gateway(), "key": "open sesame", "cert": cert, "private": private}))
    port = collector.wait_text(r"^port (\d+)$")[1]
    with open(os.path.join(pods.ROOT, "config/central/forward.ini")) as f:
        drop_in = f.read()
    os.chmod(t.dir, 0o755)
    key = t.write("key", "open sesame\n", 0o644)
    web = i.run("web", drop_in=drop_in, options=[*site_volume(i), "--volume", f"{key}:/etc/logging/key:ro",
                                                 "--volume", f"{authority.ca}:/etc/logging/ca.pem:ro"],
                settings=[("DRAIN", "0s"), ("LOG_FORMAT", "json"), ("FORWARD_TO", f"{i.gateway()}:{port}"),
                          ("FORWARD_CA", "/etc/logging/ca.pem"), ("FORWARD_KEY_FILE", "/etc/logging/key")])
    wait_ready(web)
    address = i.address(web)
    t.equal(pods.get(address, "/static.txt?for-the-collector"), (200, "static\n"))
    arrived = lambda: [json.loads(x) for x in collector.text().split("\n")[1:-1]]
    pods.wait_for("Apache's line", lambda: any("for-the-collector" in r["record"]["message"] for r in arrived()))
    figures = lambda: dict(re.findall(r"^civinit_forward_(\w+) (\d+)$", pods.get(address, "/metrics", port=9180)[1], re.M))
    pods.wait_for("the figures", lambda: int(figures()["delivered_records_total"]) > 3)
    t.equal({k: figures()[k] for k in ("connected", "dropped_records_total")}, {"connected": "1", "dropped_records_total": "0"})
    pods.podman("stop", "--time", "100", web.name)
    t.equal(web.wait_end(), 0, "exit code")
    pods.wait_for("the last record", lambda: any("ends with 0" in r["record"]["message"] for r in arrived()))
    t.equal({"civinit", "mysqlrouter", "php", "apache"} - {r["record"]["service"] for r in arrived()}, set(), "services without a record")
    t.equal({(r["tag"], r["record"]["instance"]) for r in arrived()}, {(f"civicrm.{i.name}", i.name)})
    # The same on standard output, record for record.
    said = [json.loads(line) for line in web.logs().splitlines() if line.startswith("{")]
    t.equal(sorted(r["message"] for r in said), sorted(r["record"]["message"] for r in arrived()))


def kill(web, name):
    """SIGKILL for a service's own process."""
    pid = service(web, name)["pid"]
    web.exec("sh", "-c", f"kill -9 {pid}", check=True)


def test_mysqlrouter_killed(t):
    web, address = the_web()
    before = service(web, "mysqlrouter")["restarts"]
    kill(web, "mysqlrouter")
    pods.wait_for("mysqlrouter to be ready again", lambda: service(web, "mysqlrouter")["restarts"] > before
                  and service(web, "mysqlrouter")["state"] == "ready")
    wait_page(address)
    t.equal(service(web, "apache")["restarts"], 0, "Apache's restarts")


def test_php_killed(t):
    web, address = the_web()
    before = service(web, "php")["restarts"]
    kill(web, "php")
    pods.wait_for("PHP-FPM to be ready again", lambda: service(web, "php")["restarts"] > before
                  and service(web, "php")["state"] == "ready")
    wait_page(address)


def test_static_while_php_is_busy(t):
    """Three PHP workers, five requests to PHP: a static file does not wait."""
    web, address = the_web()
    blocked = Blocked(the_instance(), address, "busy", 5, running=3)
    for _ in range(20):
        t.equal(pods.get(address, "/static.txt"), (200, "static\n"))
    t.equal(web.exec("civinit", "ready").returncode, 0, "civinit ready while PHP is busy")
    t.equal(len(glob.glob(f"{blocked.state}/busy.[0-9]*")), 3, "requests in PHP")
    t.equal(blocked.finish(), [(200, "finished")] * 5)


def test_database_killed(t):
    """The database pod dies and comes back: the page fails meanwhile, the web pod goes on. A request
    may wait in PHP for the database that has gone: tests that count workers come before."""
    web, address = the_web()
    db = the_database()
    pods.podman("pod", "kill", "--signal", "KILL", db.inspect(".Pod"))
    pods.wait_for("the page to say that there is no database", lambda: pods.get(address, "/index.php")[0] == 503
                  or db.running())
    pods.podman("pod", "start", db.inspect(".Pod"), check=False)
    the_instance().wait_mysql(db)
    wait_page(address)
    t.equal(service(web, "apache")["restarts"], 0, "Apache's restarts")


def test_apache_killed(t):
    web, address = the_web()
    kill(web, "apache")
    wait_page(the_instance().address(web))
    wait_ready(web)


def test_stop_finishes_requests(t):
    """podman stop: requests in progress are answered, and the container ends with 0."""
    web, address = the_web()
    i = the_instance()
    blocked = Blocked(i, address, "stop", 2)
    # Not "pod stop", which takes the network away at the same time; Kubernetes does it afterwards.
    stop = t.start(os.path.join(pods.ROOT, "tests/images/podman"), "stop", "--time", "100", web.name)
    web.wait_log("apache.*stopping|stopping.*apache")
    t.equal([x.is_alive() for x in blocked.threads], [True, True], "requests still in progress")
    t.equal(blocked.finish(), [(200, "finished")] * 2)
    t.equal(web.wait_end(), 0, "exit code")
    stop.wait(120)
    shared.pop("web")
    shared["web"] = i.play("web.yaml", settings=[("DRAIN", "0s"), ("WORKERS", "3")])
    t.equal(pods.get(the_web()[1], "/index.php"), (200, ROW))


def refused(t, code, *messages, **wrong):
    """A web container in which something is wrong: it ends with this code and says these words."""
    the_web()
    i = the_instance()
    settings = [("DATABASE_TIMEOUT", "2s"), *wrong.pop("settings", [])]
    web = i.run("web", settings=settings, **wrong)
    code_seen = web.wait_end()
    text = web.logs()
    t.equal(code_seen, code, f"exit code; {text[-3000:]}")
    for message in messages:
        t.match(text, message)
    t.lacks(text, i.secret("password"))
    return text


def test_wrong_password(t):
    text = refused(t, 77, r"(?i)access denied", password="not-this-one")
    t.lacks(text, "not-this-one")


def test_wrong_ca(t):
    other = t.path("ca")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=other",
                    "-keyout", other + ".key", "-out", other], check=True, capture_output=True)
    with open(other) as f:
        refused(t, 69, r"(?i)tls|ssl|certificate", ca=f.read())


def test_missing_secret(t):
    refused(t, 78, r"/etc/secrets/database/password", password="")


def test_misspelt_key(t):
    text = refused(t, 78, r"50-test\.ini:2: .*redy.*ready", drop_in="[service apache]\nredy = tcp:127.0.0.1:8080\n")
    t.lacks(text, "Starting")


def site_volume(i):
    return ["--volume", f"{i.name}-site:/var/www/html"]


def test_any_user(t):
    """An unknown UID, the root's group, read-only root, no capability: the page is served."""
    the_web()
    i = the_instance()
    web = i.run("web", user="123456:0", options=site_volume(i), settings=[("DRAIN", "0s")])
    wait_ready(web)
    t.equal(pods.get(i.address(web), "/index.php"), (200, ROW))
    numbers = web.exec("cat", "/proc/1/status").stdout
    t.match(numbers, r"^Uid:\s+123456\s+123456")
    t.match(numbers, r"^CapEff:\s+0+$")
    t.equal(web.exec("sh", "-c", "touch /etc/x 2>/dev/null").returncode, 1, "writing to the root file system")
    pods.podman("stop", "--time", "100", web.name)
    t.equal(web.wait_end(), 0, "exit code")


def test_prefork(t):
    """The variant with mod_php: page, and an orderly end with a request in progress."""
    the_web()
    i = the_instance()
    web = i.run("web", "web-prefork", options=site_volume(i), settings=[("DRAIN", "0s")])
    wait_ready(web)
    address = i.address(web)
    t.equal(pods.get(address, "/index.php"), (200, ROW))
    blocked = Blocked(i, address, "prefork", 1)
    stop = t.start(os.path.join(pods.ROOT, "tests/images/podman"), "stop", "--time", "100", web.name)
    web.wait_log("apache.*stopping|stopping.*apache")
    t.equal(blocked.finish(), [(200, "finished")])
    t.equal(web.wait_end(), 0, "exit code")
    stop.wait(120)


LIMIT = 256 << 20


def limited(role, *settings):
    """A web container with 256 MiB; what is said of its metrics."""
    the_web()
    i = the_instance()
    with open(os.path.join(i.volume("site"), "large.bin"), "wb") as f:
        f.truncate(2 * LIMIT)
    web = i.run("web", role, options=[*site_volume(i), "--memory", str(LIMIT), "--memory-swap", str(LIMIT)],
                settings=[("DRAIN", "0s"), ("WORKER_MEMORY", "40MiB"), ("RESERVED_MEMORY", "112MiB"), *settings])
    wait_ready(web)
    return web, i.address(web)


def metric(address, name):
    text = pods.get(address, "/metrics", port=9180)[1]
    m = re.search(rf"^{name} (\S+)$", text, re.M)
    return float(m[1]) if m else None


def load(t, address, mib, requests):
    """24 clients ask for pages that hold memory, while one reads a file larger than the limit: the page cache
    takes whatever is left. ab's output."""
    ab = t.start("ab", "-n", str(requests), "-c", "24", "-s", "120", f"http://{address}:8080/memory.php?mib={mib}")
    while True:
        t.equal(size_of(f"http://{address}:8080/large.bin"), 2 * LIMIT, "bytes of the large file")
        if ab.popen.poll() is not None:
            return ab.text()


def size_of(url):
    with urllib.request.urlopen(url, timeout=120) as r:
        return sum(len(part) for part in iter(lambda: r.read(1 << 20), b""))


def at_the_limit(t, role):
    """Three workers fit into 256 MiB. The limit is reached again and again, nobody is killed, every request is
    answered."""
    web, address = limited(role)
    text = load(t, address, 24, 400)
    t.match(text, r"Complete requests: +400")
    t.match(text, r"Failed requests: +0")
    t.lacks(text, "Non-2xx")
    t.equal(metric(address, "civinit_container_memory_limit_bytes"), LIMIT, "limit")
    assert metric(address, "civinit_container_memory_peak_bytes") > 0.98 * LIMIT
    t.equal(metric(address, "civinit_container_oom_kills_total"), 0, "killed for memory")
    t.equal(web.inspect(".State.OOMKilled"), "false", "killed for memory")
    t.equal([s["restarts"] for s in status(web)["services"]], [0] * len(status(web)["services"]), "restarts")
    t.lacks(web.logs(), "out of memory")


def test_at_the_memory_limit(t):
    at_the_limit(t, "web")


def test_at_the_memory_limit_with_prefork(t):
    at_the_limit(t, "web-prefork")


def test_more_workers_than_fit(t):
    """The same load with WORKERS=24, which is taken as it is: the limit is a real one, and processes are killed."""
    web, address = limited("web", ("WORKERS", "24"))
    ab = t.start("ab", "-n", "100000", "-c", "24", "-s", "120", "-r", f"http://{address}:8080/memory.php?mib=24")
    pods.wait_for("a process to be killed", lambda: (metric(address, "civinit_container_oom_kills_total") or 0) > 0 or not web.running())
    ab.end()
    pods.wait_for("civinit to say so", lambda: "out of memory" in web.logs())


if __name__ == "__main__":
    pods.main(globals(), "web", "mysql")
