#!/usr/bin/env python3
"""A real CiviCRM whose database is behind mysqlrouter, with civinit as process 1 and config/cron.ini. The database or the
router goes away in mid-run: the verdict says so, the run is drained, nobody is mailed twice.

mysqlrouter is that of the cron image, run in the image's root file system; everything else is that of the other tests here
(the image's own client library does not log in to MariaDB by mysql_native_password, and this CiviCRM wants MariaDB)."""
import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib")]
import civisite
import civitest
import pid1
import pods
import tls
from civisite import SEND, Site, everybody_once, nothing_held, shared_end  # noqa: F401
from civitest import wait_for

IMAGE = os.path.join(os.path.dirname(civisite.CACHE), "cron-image", pods.TAG)


def extract():
    """The image's root file system into IMAGE, unless it is there. Why not, or None."""
    why = pods.unusable() or (None if civisite.is_built() else "no CiviCRM here")
    if why or os.environ.get("CIVISITE_INSIDE"):
        return why
    pods.build("cron", say=lambda text: print(text, flush=True))
    identity = pods.podman("image", "inspect", "--format", "{{.Id}}", pods.image("cron")).stdout
    with contextlib.suppress(OSError), open(f"{IMAGE}/stamp") as f:
        if f.read() == identity:
            return None
    shutil.rmtree(IMAGE, ignore_errors=True)
    os.makedirs(f"{IMAGE}/root/etc/mysql-ca")
    container = pods.podman("create", pods.image("cron")).stdout.strip()
    try:
        with subprocess.Popen([f"{pods.ROOT}/tests/images/podman", "export", container], stdout=subprocess.PIPE) as out:
            subprocess.run(["tar", "-x", "-C", f"{IMAGE}/root"], stdin=out.stdout, check=True)
    finally:
        pods.podman("rm", container)
    with open(f"{IMAGE}/root/etc/hosts", "w") as f:
        f.write("127.0.0.1 localhost\n")
    with open(f"{IMAGE}/stamp", "w") as f:
        f.write(identity)
    return None


cannot = extract()
civisite.isolate()


class RoutedSite(Site):
    """The site, with a database on another port that takes TLS only, and settings that know only mysqlrouter's socket."""

    def __init__(self):
        if cannot:
            raise civitest.Skip(cannot)
        self.authority = tls.Authority(tempfile.mkdtemp(prefix="civisite-ca-"))
        super().__init__(port=3307, tls=self.authority)
        self.stack.callback(shutil.rmtree, self.authority.folder, ignore_errors=True)
        self.image = f"{IMAGE}/root"
        # One /run for all three: the router's socket is where cron.ini and the settings have it.
        self.mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/run")
        self.mount("--bind", "/run", f"{self.image}/run")
        self.mount("--bind", "/run", f"{self.root}/run")
        self.mount("-t", "tmpfs", "tmpfs", f"{self.image}/etc/mysql-ca")
        shutil.copy(self.authority.ca, f"{self.image}/etc/mysql-ca/ca.crt")
        self.instead(civisite.SETTINGS, (r"@127\.0\.0\.1(:\d+)?/", "@unix(/run/mysqlrouter.sock)/"))
        self.instead("/etc/wordpress/config-default.php", (r"'127\.0\.0\.1'", "'localhost:/run/mysqlrouter.sock'"))
        self.db.sql("ALTER USER site@'%' REQUIRE SSL")

    def mount(self, *words):
        subprocess.run(["mount", *words], check=True)

    def instead(self, path, change):
        """The file with a change, mounted over itself."""
        with open(self.root + path) as f:
            text, n = re.subn(*change, f.read())
        assert n, f"{path} knows no database"
        changed = os.path.join(self.folder, os.path.basename(path))
        with open(changed, "w") as f:
            f.write(text)
        self.mount("--bind", changed, self.root + path)

    def submit(self, group="people"):
        """Through CiviCRM, which needs the router for it."""
        if group in self.submitted:
            return super().submit(group)
        with subprocess.Popen(["chroot", self.image, "mysqlrouter", "--config", "/etc/mysqlrouter/mysqlrouter.conf",
                               f"--routing:civicrm.destinations=localhost:{self.db.port}"]) as router:
            wait_for("the router's socket", lambda: os.path.exists("/run/mysqlrouter.sock"))
            super().submit(group)
            router.terminate()


class Pod(pid1.Container):
    """civinit as process 1 with config/cron.ini, and a drop-in that says where things are on this machine."""

    def __init__(self, t, site, once=True, schedule="@every 5m"):
        with open(os.path.join(civitest.ROOT, "config/cron.ini")) as f:
            ini = f.read().replace("/etc/civinit/cron.ini", t.path("etc/cron.ini"))
        ini = ini.replace("command = mysqlrouter ", f"command = chroot {site.image} mysqlrouter ")
        t.write("etc/cron.d/site.ini", f"""[jobs]
state_dir = {t.path("state")}
splay = 0s
[civicrm]
code = {site.root}/usr/share/civicrm
[mail]
smtp = smtp+plain://127.0.0.1:25
smtp_user = mailer
smtp_password_file = {t.write("smtp-password", "mailerpass", 0o600)}
[job civicrm]
schedule = {schedule}
cwd = /
""")
        env = {"INSTANCE": "parish", "DATABASE_SERVERS": f"localhost:{site.db.port}", "DATABASE_USER": "site",
               "DATABASE_PASSWORD_FILE": site.password_file, "CIVICRM_COMMAND": " ".join(site.cron()),
               "PATH": f"{civitest.BUILD}:{os.environ['PATH']}"}
        super().__init__(t, ini, env=env, name="cron", once=once)

    def pids(self, name):
        """Processes of the container with that command name."""
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            with contextlib.suppress(OSError):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{thread}/children") as f:
                        todo += [int(x) for x in f.read().split()]
                with open(f"/proc/{pid}/comm") as f:
                    if f.read().strip() == name:
                        found.append(pid)
        return found

    def kill_router(self):
        for pid in self.pids("mysqlrouter"):
            os.kill(pid, signal.SIGKILL)

    def term(self):
        os.kill(self.pid, signal.SIGTERM)

    def wait(self):
        """Exit code, and all that was said."""
        code = self.process.wait(150)
        return code, self.process.text()


def begin(t, *jobs):
    site = RoutedSite.shared()
    site.reset()
    site.submit()
    site.jobs(*jobs)
    return site


def outcome(t, text):
    """Of the run: its word, and why."""
    m = t.match(text, r'job=civicrm run=\w+ outcome=(\w+) .*?(?: reason="(.*)")?$')
    return m[1], m[2] or ""


def test_once(t):
    """The mailing arrives; the container ends with the jobs, and the router goes last."""
    site = begin(t, SEND, "Test ok")
    code, text = Pod(t, site).wait()
    t.equal(code, 0, text)
    everybody_once(t, site)
    t.match(text, 'civicrm_job="Test ok" outcome=success')
    t.match(text, r"service jobs: (done|down)[\s\S]*service mysqlrouter: stopping[\s\S]*service mysqlrouter: down")


def test_sigterm_while_mail_is_sent(t):
    """The drain reaches the database through the router, which stays until PHP has ended by itself."""
    site = begin(t, SEND)
    site.sink.pause_at(7)
    pod = Pod(t, site)
    wait_for("mail 7", site.sink.paused.is_set)
    pod.term()
    wait_for("the mailing to be paused", lambda: site.number("SELECT COUNT(*) FROM civicrm_mailing_job WHERE status = 'Paused'"), every=0.05)
    site.sink.go()
    _, text = pod.wait()
    t.lacks(text, "killed at the end")
    t.match(text, r"service jobs: (done|down)[\s\S]*service mysqlrouter: stopping")
    t.equal((len(site.sink.accepted), site.marks()), (10, (10, 0)), "mailed and marked by the first pod")
    code, text = Pod(t, site).wait()
    t.equal(code, 0, text)
    everybody_once(t, site)
    nothing_held(t, site)


def restart(site, pod):
    site.db.stop()
    site.db.start()


def kill_router(site, pod):
    pod.kill_router()


def lost(t, text):
    """Told as what it was: the lock was lost, so the run was ended; the job that was running is the one that crashed."""
    t.contains(text, "the lock is lost")
    word, why = outcome(t, text)
    t.equal(word, "failure", why)
    t.contains(why, "the lock was lost while it ran")


def gone_in_mid_run(t, go_away):
    """After the mailing, while another job runs: nobody is mailed again."""
    site = begin(t, SEND, "Test sleep")
    pod = Pod(t, site)
    wait_for("the job to sleep", lambda: os.path.exists(site.root + "/tmp/civitest-asleep"))
    go_away(site, pod)
    code, text = pod.wait()
    t.equal(code, 75, text)
    lost(t, text)
    t.match(text, f'civicrm_job="{SEND}" outcome=success')
    t.match(text, 'civicrm_job="Test sleep" outcome=crashed')
    everybody_once(t, site)
    site.jobs(SEND, "Test ok")
    code, text = Pod(t, site).wait()
    t.equal(code, 0, text)
    everybody_once(t, site)


def test_database_restarts_in_mid_run(t):
    gone_in_mid_run(t, restart)


def test_router_is_killed_in_mid_run(t):
    gone_in_mid_run(t, kill_router)


def gone_in_mid_mailing(t, go_away):
    """While the 7th mail is on its way: PHP cannot write down that one any more, so that it is the only one that goes out again."""
    site = begin(t, SEND)
    site.sql("DELETE FROM civicrm_setting WHERE name = 'civimail_sync_interval'; INSERT INTO civicrm_setting (name, value, domain_id, is_domain) "
             "VALUES ('civimail_sync_interval', 'i:1;', 1, 1)")
    site.sink.pause_at(7)
    pod = Pod(t, site)
    wait_for("mail 7", site.sink.paused.is_set)
    go_away(site, pod)
    pod.process.wait_text("the lock is lost")
    site.sink.go()
    code, text = pod.wait()
    assert code != 0, text
    lost(t, text)
    t.equal(site.marks(), (6, 0), "marked")
    site.jobs(SEND)
    code, text = Pod(t, site).wait()
    t.equal(code, 0, text)
    count = collections.Counter(site.sink.accepted)
    t.equal((len(count), site.marks(), site.statuses()), (civisite.PEOPLE, (civisite.PEOPLE, 0), ["Complete", "Complete"]))
    t.equal({a: n for a, n in count.items() if n > 1}, {site.sink.accepted[6]: 2}, "mailed twice")
    nothing_held(t, site)


def test_database_restarts_in_mid_mailing(t):
    gone_in_mid_mailing(t, restart)


def test_router_is_killed_in_mid_mailing(t):
    gone_in_mid_mailing(t, kill_router)


def test_loop_goes_on_after_the_router_was_killed(t):
    """civinit starts the router again; the jobs service stays, and a later tick runs as always."""
    site = begin(t, SEND, "Test sleep")
    pod = Pod(t, site, once=False, schedule="@every 1s")
    wait_for("the job to sleep", lambda: os.path.exists(site.root + "/tmp/civitest-asleep"))
    pod.kill_router()
    pod.process.wait_text("outcome=failure .*the lock was lost")
    with open(site.root + "/tmp/civitest-go", "w"):
        pass
    pod.process.wait_text(r'civicrm_job="Test sleep" outcome=success')
    pod.term()
    code, text = pod.wait()
    t.equal(code, 0, text)
    t.lacks(text, "service jobs: backoff")
    everybody_once(t, site)


civitest.main(globals())
