"""Debian's MariaDB, run privately: own folder, unix socket, TCP port of loopback.

    server = mariadb.Server(t)               # ends with the test; .socket .port .root_password_file
    server = mariadb.Server.shared()         # one for the whole file, ended by mariadb.shared_end
    server.sql("SELECT 1")                   # as root: rows as lists of texts
    server.account("site", "secret", "civicrm")   # a user with all rights on one database; its password file
    server.kill(); server.start()            # a crash and what follows
"""
import os
import shutil
import signal
import subprocess
import tempfile

import civitest

DAEMON = next((p for p in ("/usr/sbin/mariadbd", "/usr/sbin/mysqld") if os.path.exists(p)), None)
_shared = None


class Server:
    def __init__(self, t=None, tls=None, options=(), start=True):
        """tls: a tls.Authority that signs the server's certificate (for localhost and 127.0.0.1)."""
        if not DAEMON:
            raise civitest.Skip("no mariadbd")
        self.folder = tempfile.mkdtemp(prefix="civinit-mariadb-")
        os.chmod(self.folder, 0o755)
        self.data = os.path.join(self.folder, "data")
        # Of its own: a server that starts removes the temporary tables of others in the same folder.
        self.tmp = os.path.join(self.folder, "tmp")
        os.mkdir(self.tmp)
        self.socket = os.path.join(self.folder, "sock")  # short: sun_path ends at 107 bytes
        self.log = os.path.join(self.folder, "log")
        self.port = civitest.free_port()
        self.process = None
        if t:
            t.defer(self.end)
        self.options = ["--no-defaults", f"--datadir={self.data}", f"--tmpdir={self.tmp}", f"--socket={self.socket}", f"--port={self.port}",
                        "--bind-address=127.0.0.1", f"--pid-file={self.folder}/pid", "--skip-name-resolve",
                        "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0",
                        "--performance-schema=OFF", "--character-set-server=utf8mb4", *options]
        if os.geteuid() == 0:
            self.options.append("--user=root")
        if tls:
            certificate, key = tls.server("localhost", "127.0.0.1", name="mariadb")
            self.options += [f"--ssl-ca={tls.ca}", f"--ssl-cert={certificate}", f"--ssl-key={key}"]
        self._install()
        if start:
            self.start()

    def _install(self):
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}", f"--tmpdir={self.tmp}", "--auth-root-authentication-method=normal",
                   "--skip-test-db", "--skip-name-resolve", "--force", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M"]
        if os.geteuid() == 0:
            command.append("--user=root")
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"mariadb-install-db: {done.stdout}{done.stderr}")

    def start(self, wait=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([DAEMON, *self.options], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            cwd=self.folder, start_new_session=True)
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=120):
        def ready():
            if self.process.poll() is not None:
                with open(self.log, errors="replace") as f:
                    raise RuntimeError(f"mariadbd ended with {self.process.returncode}: {f.read()[-3000:]}")
            return self.client("SELECT 1").returncode == 0
        civitest.wait_for("mariadbd to be ready", ready, seconds, every=0.05)

    def client(self, sql, database=None):
        """The command line client as root: a CompletedProcess."""
        command = ["mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch", "--skip-column-names"]
        return subprocess.run(command + ([database] if database else []), input=sql, capture_output=True, text=True, timeout=300)

    def sql(self, sql, database=None):
        done = self.client(sql, database)
        if done.returncode:
            raise RuntimeError(f"{sql[:200]}: {done.stderr}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def account(self, user, password, database=None, require="", rights="ALL"):
        """Makes the account (and database); the path of a file with its password."""
        sql = f"CREATE OR REPLACE USER '{user}'@'%' IDENTIFIED BY '{password}' {require};"
        if database:
            sql += f"CREATE DATABASE IF NOT EXISTS `{database}`; GRANT {rights} ON `{database}`.* TO '{user}'@'%';"
        self.sql(sql)
        path = os.path.join(self.folder, f"password.{user}")
        with open(path, "w") as f:
            f.write(password + "\n")
        os.chmod(path, 0o600)
        return path

    def kill(self, number=signal.SIGKILL):
        """Ends the daemon by a signal and waits for its end."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(120)

    def stop(self):
        self.kill(signal.SIGTERM)

    def end(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @classmethod
    def shared(cls, **options):
        global _shared
        if _shared is None:
            _shared = cls(**options)
        return _shared


def shared_end():
    """Name it in a test file (`from mariadb import shared_end`): civitest.main calls it at the end."""
    global _shared
    if _shared:
        _shared.end()
        _shared = None
