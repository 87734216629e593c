"""The real CiviCRM of these tests: its root directory (tests/civicrm/setup makes it), a database, IMAP and SMTP.

    civisite.isolate()          # first: the file goes on in network and mount namespaces of its own, as root
    site = Site.shared()        # one for the file; site.reset() before each test
    site.tool("mailing", "people")                      # submits a mailing to 24 people ("gone": 2 whose mail comes back)
    site.jobs("Test ok", "Send Scheduled Mailings")     # exactly these scheduled jobs are active and due
    site.cron()                                         # argv of a run as CiviCRM's own documentation has it
    site.sink                                           # the mail server (sink.py)
"""
import collections
import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

import civitest
import mariadb
import sink

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get("CIVINIT_TEST_CACHE", "/var/cache/civinit-tests"), "civicrm")
ROOT, NEW_ROOT, DATA, STAMP = (os.path.join(CACHE, n) for n in ("root", "root.new", "data", "stamp"))
CORE = "/usr/share/wordpress/wp-content/plugins/civicrm/civicrm"
SETTINGS = "/var/lib/wordpress/wp-content/uploads/civicrm/civicrm.settings.php"
MISBEHAVIOURS = ("ok", "apierror", "exception", "typeerror", "exit", "memory", "segv", "sql", "sleep")
PEOPLE, GONE = 24, 2
IMAP_PORTS = (143, 993)
MAIL = 8  # Debian's user and group "mail"


def _digest():
    h = hashlib.sha256()
    for name in ("setup", "site/site.php", "site/jobs.php", "site/config-default.php"):
        with open(os.path.join(HERE, name), "rb") as f:
            h.update(f.read())
    return h.hexdigest()


def is_built():
    with contextlib.suppress(OSError), open(STAMP) as f:
        return f.read() == _digest()
    return False


def mark_built():
    with open(STAMP, "w") as f:
        f.write(_digest())


UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--")


def isolate():
    """Goes on in a network of its own (loopback only, so that ports 25, 143 and 3306 are free), with mounts of its own, and
    where every process ends with the test. A test file without a site stays where it is: its tests are skipped."""
    setup = os.path.basename(sys.argv[0]) == "setup"
    if os.geteuid() != 0 or os.environ.get("CIVISITE_INSIDE") or not (setup or is_built()):
        return
    tried = subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    if tried.returncode:
        sys.exit(f"civicrm: no namespaces here: {tried.stderr}")
    os.environ["CIVISITE_INSIDE"] = "1"
    os.execvp(UNSHARE[0], [*UNSHARE, "sh", "-c", 'ip link set lo up && "$@"', "sh", sys.executable, "-u", *sys.argv])


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Database(mariadb.Server):
    """MariaDB on a copy of the site's data. A crash of it loses nothing that was committed."""

    def __init__(self, fresh, port, tls):
        self.fresh = fresh
        # CiviCRM 5.33 relies on what TIMESTAMP columns do by themselves (civicrm_job_log.run_time).
        super().__init__(tls=tls, options=(f"--port={port}", "--innodb-flush-log-at-trx-commit=2", "--explicit-defaults-for-timestamp=OFF"))
        self.port = port

    def _install(self):
        if self.fresh:
            return super()._install()
        shutil.copytree(DATA, self.data, symlinks=True)


class Site:
    _shared = None

    def __init__(self, root=None, fresh=False, port=3306, tls=None):
        """port, tls: of the database; CiviCRM's own settings say 3306, without."""
        if os.geteuid() != 0:
            raise civitest.Skip("needs root")
        if not fresh and not is_built():
            raise civitest.Skip("no CiviCRM here: tests/civicrm/setup did not build it")
        self.root = root or ROOT
        self.submitted = set()
        self.stack = contextlib.ExitStack()
        self.folder = tempfile.mkdtemp(prefix="civisite-")
        os.chmod(self.folder, 0o755)
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._mount()
        self.db = Database(fresh, port, tls)
        self.stack.callback(self.db.end)
        self.password_file = os.path.join(self.folder, "password")
        with open(self.password_file, "w") as f:
            f.write("dbpass\n")
        if not fresh:
            self.mail = os.path.join(self.folder, "mail")
            self.sink = sink.Sink(self.mail)
            self.stack.callback(self.sink.close)
            self.empty_mailboxes()
            self.dovecot = None
            self.imap()
            self.stack.callback(self.end_imap)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.end()

    def end(self):
        self.stack.close()

    @classmethod
    def shared(cls):
        if Site._shared is None:
            Site._shared = cls()
        return Site._shared

    def _mount(self):
        """What PHP needs besides files; the namespace's end undoes it."""
        for command in (("mount", "-t", "proc", "proc", f"{self.root}/proc"), ("mount", "--rbind", "/dev", f"{self.root}/dev"),
                        ("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{self.root}/tmp")):
            if not os.path.ismount(command[-1]):
                subprocess.run(command, check=True)

    def imap(self, certificate=None, key=None):
        """Starts the IMAP server, or starts it anew: with a certificate it takes logins only by TLS (143: STARTTLS, 993), else only without."""
        self.end_imap()
        secure = f"ssl = required\nssl_cert = <{certificate}\nssl_key = <{key}\nssl_dh =\ndisable_plaintext_auth = yes" if certificate else \
            "ssl = no\ndisable_plaintext_auth = no"
        conf = os.path.join(self.folder, "dovecot.conf")
        with open(conf, "w") as f:
            f.write(f"""base_dir = {self.folder}/dovecot
protocols = imap
listen = 127.0.0.1
{secure}
log_path = {self.folder}/dovecot.log
mail_location = maildir:{self.mail}/%n/Maildir
mail_uid = {MAIL}
mail_gid = {MAIL}
first_valid_uid = {MAIL}
first_valid_gid = {MAIL}
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  inet_listener imaps {{
    port = 993
    ssl = {"yes" if certificate else "no"}
  }}
}}
passdb {{
  driver = static
  args = password=imappass
}}
userdb {{
  driver = static
  args = uid={MAIL} gid={MAIL} home={self.mail}/%n
}}
""")
        self.dovecot = subprocess.Popen(["dovecot", "-F", "-c", conf], stdin=subprocess.DEVNULL, start_new_session=True)
        self.imap_certificate = certificate
        civitest.wait_for("dovecot to listen", lambda: all(map(self._listens, IMAP_PORTS)))

    def _listens(self, port):
        assert self.dovecot.poll() is None, "dovecot ended"
        return listens(port)

    def end_imap(self):
        if not self.dovecot:
            return
        self.dovecot.terminate()
        try:
            self.dovecot.wait(30)
        except subprocess.TimeoutExpired:
            self.dovecot.kill()
            self.dovecot.wait()
        self.dovecot = None
        civitest.wait_for("dovecot's children to be gone", lambda: not any(map(listens, IMAP_PORTS)))

    # ---- what runs inside the root directory ----

    def inside(self, *command, root_user=False):
        """argv of a command in the site's root directory, as the web server's user."""
        who = [] if root_user else ["--userspec=33:33"]
        return ["chroot", *who, self.root, "/usr/bin/env", "HOME=/var/www", "LANG=C.UTF-8", *command]

    def cron(self, *more):
        return self.inside("php", f"{CORE}/bin/cli.php", "-s", "civi.test", "-u", "admin", "-p", "adminpass", "-e", "Job", "-a", "execute", *more)

    def tool(self, *args):
        return subprocess.run(self.inside("php", "-d", "memory_limit=512M", "/srv/site.php", *args), capture_output=True, text=True,
                              errors="replace", stdin=subprocess.DEVNULL, timeout=300)

    def submit(self, group="people"):
        """Submits a mailing to the group: the first time through CiviCRM, then from a copy of the rows that this made."""
        rows = ("civicrm_mailing", "civicrm_mailing_group", "civicrm_mailing_job", "civicrm_mailing_recipients")
        if group in self.submitted:
            self.sql("SET foreign_key_checks = 0;" + "".join(f"INSERT INTO {r} SELECT * FROM submitted.{group}_{r};" for r in rows))
            return
        done = self.tool("mailing", group)
        assert done.returncode == 0, f"mailing: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        self.sql("CREATE DATABASE IF NOT EXISTS submitted;" + "".join(f"CREATE TABLE submitted.{group}_{r} AS SELECT * FROM {r};" for r in rows))
        self.submitted.add(group)

    # ---- what looks after it ----

    def config(self, t, job="", more="", name="cron.ini", mail=True):
        """Writes the configuration of a cron role for the site; its path. Each pod has a state folder of its own."""
        mail_ini = f"""
[mail]
smtp = smtp+plain://127.0.0.1:25
smtp_user = mailer
smtp_password_file = {t.write("smtp-password", "mailerpass", 0o600)}
imap = imap+plain://127.0.0.1:143
imap_user = bounces
imap_password_file = {t.write("imap-password", "imappass", 0o600)}
timeout = 2s
""" if mail else ""
        return t.write(name, f"""
[container]
instance = parish
grace = 2m
[database]
host = 127.0.0.1
port = 3306
user = site
password_file = {self.password_file}
[civicrm]
database = civicrm
code = {self.root}/usr/share/civicrm
[jobs]
state_dir = {t.path("state." + name)}
lock = yes
{mail_ini}
[job civicrm]
schedule = @every 5m
command = {" ".join(self.cron())}
verdict = civicrm
{"needs = database smtp imap" if mail else ""}
{job}
{more}
""")

    def once(self, t, config, *jobs, seconds=120, env=None):
        """`civinit-jobs run --once`: what the CronJob of an instance runs."""
        return t.run(civitest.program("civinit-jobs"), "--config", config, "run", "--once", *jobs, seconds=seconds, env=env)

    def civicrm_mail(self, smtp=("127.0.0.1", 25), imap=("127.0.0.1", False)):
        """CiviCRM's own settings: where it sends (host, port) and fetches (host, TLS)."""
        (value,), = self.sql("SELECT value FROM civicrm_setting WHERE name = 'mailing_backend'")
        host, port = smtp
        value = re.sub(r's:10:"smtpServer";s:\d+:"[^"]*"', f's:10:"smtpServer";s:{len(host)}:"{host}"', value)
        value = re.sub(r's:8:"smtpPort";i:\d+', f's:8:"smtpPort";i:{port}', value)
        quoted = value.replace("'", "''")
        self.sql(f"UPDATE civicrm_setting SET value = '{quoted}' WHERE name = 'mailing_backend';"
                 f"UPDATE civicrm_mail_settings SET server = '{imap[0]}', is_ssl = {int(imap[1])}")

    # ---- its state ----

    def sql(self, sql):
        return self.db.sql(sql, "civicrm")

    def number(self, sql):
        return int(self.sql(sql)[0][0])

    def reset(self, locale="en_US"):
        """No mailings, no log, no active jobs, all addresses good, a working mail server."""
        self.sink.reset()
        if self.imap_certificate or not self.dovecot:
            self.imap()
        self.civicrm_mail()
        for name in ("civitest-go", "civitest-asleep"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.root}/tmp/{name}")
        tables = [r[0] for r in self.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'civicrm' AND "
                                         "(table_name LIKE 'civicrm\\_mailing\\_event\\_%' OR table_name IN ('civicrm_mailing', "
                                         "'civicrm_mailing_job', 'civicrm_mailing_group', 'civicrm_mailing_recipients', 'civicrm_job_log'))")]
        self.sql("SET foreign_key_checks = 0;" + "".join(f"DELETE FROM {x};" for x in tables) +
                 "DROP TABLE IF EXISTS civinit_mail_hold, civinit_lock; UPDATE civicrm_email SET on_hold = 0, hold_date = NULL;"
                 "UPDATE civicrm_job SET is_active = 0, scheduled_run_date = NULL; UPDATE civicrm_domain SET version = '5.33.2'")
        if locale != self.locale():
            done = self.tool("locale", locale)
            assert done.returncode == 0, done.stderr[-2000:]
        self.empty_mailboxes()

    def empty_mailboxes(self):
        for user in ("bounces", "people"):
            folder = os.path.join(self.mail, user, "Maildir")
            shutil.rmtree(folder, ignore_errors=True)
            for sub in ("tmp", "new", "cur"):
                os.makedirs(os.path.join(folder, sub))
        for folder, _, _ in os.walk(self.mail):
            os.chown(folder, MAIL, MAIL)

    def locale(self):
        rows = self.sql("SELECT value FROM civicrm_setting WHERE name = 'lcMessages'")
        return rows[0][0].split('"')[1] if rows else "en_US"

    def jobs(self, *names):
        listed = ", ".join(f"'{n}'" for n in names)
        self.sql(f"UPDATE civicrm_job SET is_active = (name IN ({listed})), last_run = NULL, scheduled_run_date = NULL")

    def marks(self):
        """How many recipients CiviCRM has recorded as delivered and as bounced."""
        return (self.number("SELECT COUNT(*) FROM civicrm_mailing_event_delivered"), self.number("SELECT COUNT(*) FROM civicrm_mailing_event_bounce"))

    def statuses(self):
        return sorted(r[0] for r in self.sql("SELECT status FROM civicrm_mailing_job WHERE is_test = 0"))

    def mailboxes(self):
        return {u: sum(len(os.listdir(os.path.join(self.mail, u, "Maildir", s))) for s in ("new", "cur")) for u in ("bounces", "people")}


# ---- what tests of mail begin and end with ----

SEND = "Send Scheduled Mailings"


def fresh(t, *jobs, **options):
    """A site with a mailing to 24 people that is due, and the configuration of a pod."""
    site = Site.shared()
    site.reset()
    site.submit()
    site.jobs(SEND, *jobs)
    return site, site.config(t, **options)


def everybody_once(t, site):
    """All got their mail, nobody twice, and CiviCRM knows it as that."""
    twice = {a: n for a, n in collections.Counter(site.sink.accepted).items() if n > 1}
    t.equal(twice, {}, "mailed twice")
    t.equal(len(site.sink.accepted), PEOPLE, "people mailed")
    t.equal(site.marks(), (PEOPLE, 0), "delivered and bounced, as CiviCRM has it")
    t.equal(site.statuses(), ["Complete", "Complete"])
    t.equal(site.number("SELECT COUNT(*) FROM civicrm_email WHERE on_hold > 0"), 0)


def nothing_held(t, site):
    if site.sql("SHOW TABLES LIKE 'civinit_mail_hold'"):
        t.equal(site.number("SELECT COUNT(*) FROM civinit_mail_hold"), 0)
    t.equal(site.number("SELECT COUNT(*) FROM civicrm_job WHERE scheduled_run_date IS NOT NULL"), 0)


def asking_civicrm(t, site, config, beside=False):
    """The same configuration with a mail gate that asks through CiviCRM's own code and settings; or through that too."""
    shutil.copy(os.path.join(civitest.ROOT, "config/civicrm/mail-check.php"), site.root + "/tmp/mail-check.php")
    check = site.inside(f"CIVICRM_SETTINGS={SETTINGS}", "php", "/tmp/mail-check.php")
    with open(config) as f:
        text = re.sub(r"^timeout = 2s\n", "", f.read(), flags=re.M)
    if not beside:
        text = re.sub(r"^(smtp|imap)\b.*\n|^(smtp|imap)_.*\n", "", text, flags=re.M)
    return t.write("check.ini", text.replace("[mail]\n", f"[mail]\ncheck = {' '.join(check)}\ntimeout = 1m\n"))


def shared_end():
    if Site._shared:
        Site._shared.end()
        Site._shared = None
