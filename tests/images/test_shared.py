#!/usr/bin/env python3
"""One MySQL for many instances: config/kubernetes/variants/shared-mysql.yaml, with two servers, the
accounts that it tells to make, and the binary log on."""
import json
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import dbserver
import pods
from dbserver import sql

PAGE = """<?php
mysqli_report(MYSQLI_REPORT_OFF);
$db = @new mysqli('localhost', getenv('DATABASE_USER'), trim(file_get_contents('/etc/secrets/database/password')), getenv('DATABASE_NAMES'));
if ($db->connect_errno) { http_response_code(503); exit("$db->connect_errno $db->connect_error"); }
$tls = $db->query("SHOW STATUS LIKE 'Ssl_version'")->fetch_row()[1];
echo $db->query('SELECT @@report_host')->fetch_row()[0], ' ', $db->query('SELECT CURRENT_USER()')->fetch_row()[0], " $tls";
"""
SCHEMA = """
CREATE TABLE contact (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80));
CREATE TABLE log (what VARCHAR(80));
CREATE TRIGGER contact_after AFTER INSERT ON contact FOR EACH ROW INSERT INTO log VALUES (NEW.name);
CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n;
CREATE VIEW names AS SELECT name FROM contact;
INSERT INTO contact (name) VALUES ('one'), ('two');
"""
CONTENT = ("SELECT * FROM {0}.contact; SELECT * FROM {0}.log; SELECT {0}.twice(21); SELECT * FROM {0}.names; "
           "SELECT trigger_name, definer FROM information_schema.triggers WHERE trigger_schema = '{0}'")
shared = {}


class Engine:
    """Two servers with the same accounts; the settings of the variant."""

    def __init__(self, instance):
        self.i = instance
        self.servers = dbserver.Servers(instance)
        settings = instance.spec("variants/shared-mysql.yaml", [("mysql-a.example.org", f"{instance.name}-a"),
                                                                ("mysql-b.example.org", f"{instance.name}-b")])
        instance.settings = pods.documents(settings)[0]
        self.database = f"{instance.name}_civicrm"
        self.both = [self.servers.start(word, n, "--log-bin-trust-function-creators=ON") for n, word in ((1, "a"), (2, "b"))]
        for server in self.both:
            self.servers.wait(server)
            for name in (instance.name, "neighbour"):
                sql(server, self.accounts(settings, name))

    def accounts(self, text, name):
        """The statements of the file's comment."""
        site, backup = self.i.secret("password"), self.i.secret("backup-password")
        lines = re.findall(r"^#   ((?:CREATE|GRANT) .*;)$", text, re.M)
        statements = "\n".join(lines).replace(self.i.name, name).replace("'…'", f"'{site}'", 1).replace("'…'", f"'{backup}'", 1)
        assert len(lines) == 6 and "…" not in statements, statements
        return statements

    def login(self, server, text, user=None):
        """SQL with the site's account over TCP; the CompletedProcess."""
        return server.exec("mysql", "--host=127.0.0.1", f"--user={user or self.i.name}", "--skip-column-names", "--batch",
                           "--ssl-mode=REQUIRED", "--execute", text, env={"MYSQL_PWD": self.i.secret("password")})


def the_engine():
    if "engine" not in shared:
        pods.need()
        if "instance" in shared:
            raise pods.Failed("there are no servers, see above")
        shared["instance"] = i = pods.Instance()
        i.site({"index.php": PAGE})
        os.chmod(i.volume("backup"), 0o1777)
        shared["engine"] = Engine(i)
    return shared["engine"]


def shared_end():
    if "instance" in shared:
        shared["instance"].close()


def page(e, address, server):
    """Waits for the page of this server."""
    want, last = (200, f"{server.name} {e.i.name}@% TLSv1.3"), [None]

    def look():
        last[0] = pods.get(address)
        return last[0] == want
    try:
        pods.wait_for(f"the page, from {server.name}", look)
    except pods.Late as late:
        raise pods.Late(f"{late}; last: {last[0]}") from None


def test_accounts(t):
    """No account can do more than its own database, or sees the neighbour's; none goes without TLS."""
    e = the_engine()
    server = e.both[0]
    for user in (e.i.name, f"{e.i.name}_backup"):
        grants = sql(server, f"SHOW GRANTS FOR '{user}'@'%'").splitlines()
        everywhere = [g for g in grants if " ON *.* " in g]
        t.equal([g for g in everywhere if not re.match("GRANT (USAGE|SHOW_ROUTINE) ON", g)], [], "grants on all databases")
    t.equal(e.login(server, "SHOW DATABASES LIKE '%civicrm'").stdout, e.database + "\n")
    t.match(e.login(server, "USE neighbour_civicrm").stderr, "ERROR 1044")
    p = server.exec("mysql", "--host=127.0.0.1", f"--user={e.i.name}", "--ssl-mode=DISABLED", "--get-server-public-key",
                    "--execute", "SELECT 1", env={"MYSQL_PWD": e.i.secret("password")})
    t.match(p.stderr, "ERROR (3159|1045)")


def test_first_available(t):
    """The first server takes all; while it is away the second does; when it is back it takes all again. In
    the pod nothing is restarted."""
    e = the_engine()
    first, second = e.both
    web = e.i.play("web.yaml", settings=[("DRAIN", "0s"), ("WORKERS", "3")])
    pods.ready(web)
    address = e.i.address(web)
    page(e, address, first)
    pods.podman("stop", "--time", "100", first.name)
    page(e, address, second)
    pods.podman("start", first.name)
    e.servers.wait(first)
    page(e, address, first)
    pods.podman("kill", "--signal", "KILL", first.name)
    page(e, address, second)
    services = json.loads(web.exec("civinit", "status", "--json", check=True).stdout)["services"]
    t.equal({s["name"]: s["restarts"] for s in services if s["restarts"]}, {}, "restarts")
    pods.podman("start", first.name)
    e.servers.wait(first)
    page(e, address, first)


def test_first_is_absent(t):
    """A pod that starts while the first server's name does not even exist."""
    e = the_engine()
    web = e.i.run("web", options=["--volume", f"{e.i.name}-site:/var/www/html"], settings=[
        ("DRAIN", "0s"), ("DATABASE_SERVERS", f"nowhere.invalid:3306,{e.both[1].name}:3306")])
    pods.ready(web)
    page(e, e.i.address(web), e.both[1])


def test_identity(t):
    """The CA is right, the name is not: refused with VERIFY_IDENTITY, taken with VERIFY_CA."""
    e = the_engine()
    server = [("DATABASE_SERVERS", f"{e.i.address(e.both[0])}:3306"), ("DRAIN", "0s")]
    web = e.i.run("web", settings=[*server, ("DATABASE_TIMEOUT", "2s")])
    t.equal(web.wait_end(), 69, f"exit code; {web.logs()[-3000:]}")
    t.match(web.logs(), r"(?i)certificate verify failed|ssl|tls")
    web = e.i.run("web", options=["--volume", f"{e.i.name}-site:/var/www/html"],
                  settings=[*server, ("DATABASE_TLS_VERIFY", "VERIFY_CA")])
    pods.ready(web)
    page(e, e.i.address(web), e.both[0])


def test_backup_and_restore(t):
    """With accounts that have no SUPER, on a server with a binary log: backup.yaml, then all is lost, then
    variants/restore-job.yaml. Triggers and functions come back as the site's own."""
    e = the_engine()
    server, db = e.both[0], e.database
    made = e.login(server, f"USE {db}; {SCHEMA}")
    t.equal(made.returncode, 0, made.stderr)
    before = sql(server, CONTENT.format(db))
    t.contains(before, f"contact_after\t{e.i.name}@%")
    pod = e.i.play("backup.yaml")
    t.equal(pod.wait_end(), 0, f"exit code; {pod.logs()[-4000:]}")
    sql(server, f"DROP DATABASE {db}; CREATE DATABASE {db}")
    site = e.i.volume("site")
    for name in os.listdir(site):
        path = os.path.join(site, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    job = e.i.play("variants/restore-job.yaml")
    t.equal(job.wait_end(), 0, f"exit code; {job.logs()[-4000:]}")
    t.equal(sql(server, CONTENT.format(db)), before, "what came back")
    t.equal(os.listdir(site), ["index.php"], "files that came back")


if __name__ == "__main__":
    pods.main(globals(), "web", "backup", "mysql")
