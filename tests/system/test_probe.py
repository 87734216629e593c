#!/usr/bin/env python3
"""civinit-probe against real servers: MariaDB, SMTP, Dovecot, sockets and names."""
import contextlib
import os
import signal
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import civitest
import mailserver
import mariadb
import tls

PROBE = civitest.program("civinit-probe")
_authority = None


def authority(t):
    global _authority
    if _authority is None:
        import tempfile
        _authority = tls.Authority(tempfile.mkdtemp(prefix="civinit-ca-"))
    return _authority


def shared_end():
    mariadb.shared_end()
    if _authority:
        import shutil
        shutil.rmtree(_authority.folder, ignore_errors=True)


def probe(t, *arguments, seconds=60):
    return t.run(PROBE, *arguments, seconds=seconds)


def database(t):
    server = mariadb.Server.shared(tls=authority(t))
    return server, server.account("site", "secret", "civicrm")


def says(t, done, code, text):
    """The exit code, and the one line on stderr that holds the text."""
    t.equal(done.returncode, code, done.stderr)
    lines = [line for line in done.stderr.splitlines() if ": notice: not yet: " not in line]  # a wait of more than a second says more
    t.equal(len(lines), 1 if code else 0, f"lines of {done.stderr!r}")
    t.contains(done.stderr, text)


def test_mysql_logs_in_by_socket_and_tcp(t):
    server, password = database(t)
    for target in (server.socket, f"unix:{server.socket}", f"127.0.0.1:{server.port}", f"localhost:{server.port}"):
        says(t, probe(t, "mysql", target, "--user", "site", "--password-file", password), 0, "")
    done = probe(t, "mysql", server.socket, "-v", "--user", "site", "--password-file", password, "--database", "civicrm")
    t.match(done.stdout, r"^mysql unix:\S+: ready after ")


def test_mysql_takes_all_from_the_role_file(t):
    server, password = database(t)
    ini = t.write("web.ini", f"[database]\nsocket = {server.socket}\nuser = site\npassword_file = {password}\nnames = civicrm\n"
                             "[mail]\nsmtp_password_file = ${file:/not/there}\n")
    says(t, probe(t, "mysql", "--config", ini), 0, "")
    ini = t.write("bad.ini", f"[database]\nsocket = {server.socket}\nuser = site\npasword_file = {password}\n")
    done = probe(t, "mysql", "--config", ini)
    t.equal(done.returncode, 78)
    t.contains(done.stderr, "password_file")  # the nearest known key
    says(t, probe(t, "mysql", "--config", t.write("no.ini", "[database]\nuser = x\n")), 78, "neither host nor socket")


def test_mysql_alone_takes_the_container_s_own_role(t):
    """civinit-probe mysql, and nothing more: as a service of civinit, beside it, and where there is none."""
    server, password = database(t)
    ini = t.write("web.ini", f"[database]\nsocket = {server.socket}\nuser = site\npassword_file = {password}\n"
                             f"[container]\nmain = m\n[task db]\ncommand = {PROBE} mysql -v --wait 60s\n"
                             "[service m]\ncommand = sleep 1000\nafter = db\n")
    nobody = {"CIVINIT_RUN_DIR": t.path("none"), "CIVINIT_CONFIG": None}
    beside = {"CIVINIT_RUN_DIR": t.path("run"), "CIVINIT_CONFIG": None}
    says(t, t.run(PROBE, "mysql", env=nobody), 64, "mysql needs a target or --config")
    says(t, t.run(PROBE, "mysql", env={**nobody, "CIVINIT_CONFIG": ini}), 0, "")
    c = t.start(civitest.program("civinit"), ini, env=beside)
    c.wait_text("task db: done")
    t.contains(c.text(), f"mysql unix:{server.socket}: ready after")
    says(t, t.run(PROBE, "mysql", env=beside), 0, "")
    says(t, t.run(PROBE, "smtp", env=beside), 78, "smtp is missing")
    c.signal(signal.SIGTERM)
    t.equal(c.wait(), 0, c.text())


def test_mysql_names_what_is_in_the_way(t):
    server, password = database(t)
    tcp = f"127.0.0.1:{server.port}"
    account = ("--user", "site", "--password-file", password)
    wrong = t.write("wrong", "nope\n")
    says(t, probe(t, "mysql", tcp, "--user", "site", "--password-file", wrong), 77, "access denied: ")
    says(t, probe(t, "mysql", tcp, *account, "--database", "mysql"), 77, "access denied: ")
    says(t, probe(t, "mysql", "no..such.host", *account), 69, "name not found: ")
    says(t, probe(t, "mysql", f"127.0.0.1:{closed_port(t)}", *account), 69, "refused: ")
    says(t, probe(t, "mysql", t.path("no.sock"), *account), 69, "refused: ")
    says(t, probe(t, "mysql", tcp, *account, "--query", "SELECT 1 FROM DUAL WHERE FALSE"), 69, "not ready: the query gave no row")
    says(t, probe(t, "mysql", tcp, *account, "--query", "SELECT version FROM civicrm.civicrm_domain"), 69, "civicrm_domain")
    says(t, probe(t, "mysql", tcp, "--user", "site", "--password-file", t.path("none")), 78, "none")


def test_mysql_secret_never_shows(t):
    server, _ = database(t)
    secret = t.write("secret", "tr0ub4dor\n")
    done = probe(t, "mysql", server.socket, "--user", "site", "--password-file", secret)
    t.equal(done.returncode, 77)
    t.lacks(done.stdout + done.stderr, "tr0ub4dor")


def test_mysql_tls_modes(t):
    server, password = database(t)
    good, other = authority(t), tls.Authority(t.path("other"), "another CA")
    server.account("strict", "secret", "civicrm", require="REQUIRE SSL")
    strict = ("--user", "strict", "--password-file", password)
    tcp, named = f"127.0.0.1:{server.port}", f"localhost:{server.port}"
    says(t, probe(t, "mysql", tcp, *strict, "--tls", "off"), 77, "access denied: ")
    says(t, probe(t, "mysql", tcp, *strict, "--tls", "required"), 0, "")
    for mode in ("verify-ca", "verify-identity"):
        says(t, probe(t, "mysql", named, *strict, "--tls", mode, "--ca", good.ca), 0, "")
        says(t, probe(t, "mysql", named, *strict, "--tls", mode, "--ca", other.ca), 69, "TLS: ")
        says(t, probe(t, "mysql", named, *strict, "--tls", mode), 69, "TLS: ")


def test_mysql_tls_name_of_another(t):
    good = authority(t)

    class Elsewhere:
        """The same authority, but its certificates are for another host."""
        ca = good.ca

        @staticmethod
        def server(*hosts, name):
            return good.server("db.example.org", name="elsewhere")
    server = mariadb.Server(t, tls=Elsewhere)
    account = ("--user", "site", "--password-file", server.account("site", "secret"))
    tcp = f"localhost:{server.port}"
    says(t, probe(t, "mysql", tcp, *account, "--tls", "verify-ca", "--ca", good.ca), 0, "")
    says(t, probe(t, "mysql", tcp, *account, "--tls", "verify-identity", "--ca", good.ca), 69, "TLS: ")


def test_mysql_tls_refused_by_a_server_without(t):
    server = mariadb.Server(t, options=["--skip-ssl"])
    account = ("--user", "site", "--password-file", server.account("site", "secret"))
    says(t, probe(t, "mysql", f"127.0.0.1:{server.port}", *account, "--tls", "required"), 69, "TLS: ")


def test_mysql_waits_for_a_server_that_comes_later(t):
    server = mariadb.Server(t)
    password = server.account("site", "secret")
    server.stop()
    account = ("--user", "site", "--password-file", password, "--wait", "120s", "-v")
    waiting = [t.start(PROBE, "mysql", server.socket, *account), t.start(PROBE, "mysql", f"127.0.0.1:{server.port}", *account)]
    for p in waiting:  # in the wait for sure: it has seen the refusal when it sleeps
        civitest.wait_for("the probe to sleep", lambda pid=p.pid: sleeps(pid))
    server.start()
    for p in waiting:
        t.equal(p.wait(), 0, p.text())
        t.match(p.text(), "ready after ")


def sleeps(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "S"


def test_mysql_waits_for_an_account_that_comes_later(t):
    server, _ = database(t)
    password = t.write("later", "much-later\n")
    p = t.start(PROBE, "mysql", server.socket, "--user", "later", "--password-file", password, "--wait", "120s")
    civitest.wait_for("a refused login", lambda: int(dict(server.sql("SHOW GLOBAL STATUS LIKE 'Access_denied_errors'"))
                                                     ["Access_denied_errors"]) > 0)
    server.account("later", "much-later")
    t.equal(p.wait(), 0, p.text())


def test_mysql_gives_up_with_the_last_obstacle(t):
    says(t, probe(t, "mysql", t.path("no.sock"), "--user", "x", "--wait", "300ms"), 69, "refused: ")
    server, _ = database(t)
    wrong = t.write("wrong", "nope\n")
    done = probe(t, "mysql", server.socket, "--user", "site", "--password-file", wrong, "--wait", "2s")
    says(t, done, 77, "access denied: ")
    assert done.stderr.count(": notice: not yet: ") <= 1, done.stderr  # the same is not said again
    t.contains(done.stderr, "gave up after ")


def closed_port(t):
    """A port where nobody listens, kept so."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    t.defer(s.close)
    return s.getsockname()[1]


def silent_server(t):
    """A port where connections are accepted by the kernel and never answered."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(64)
    t.defer(s.close)
    return s.getsockname()[1]


def test_a_server_that_says_nothing_is_left_in_time(t):
    port = silent_server(t)
    user = t.write("password", "x\n")
    says(t, probe(t, "mysql", f"127.0.0.1:{port}", "--user", "x", "--password-file", user, "--timeout", "200ms"), 69, "timed out: ")
    says(t, probe(t, "http", f"http://127.0.0.1:{port}/", "--timeout", "200ms"), 69, "timed out: ")
    says(t, probe(t, "smtp", f"smtp://127.0.0.1:{port}", "--timeout", "200ms"), 69, "timed out: ")
    says(t, probe(t, "imap", f"imap://127.0.0.1:{port}", "--timeout", "200ms"), 69, "timed out: ")
    says(t, probe(t, "tcp", f"127.0.0.1:{port}", "--timeout", "10s"), 0, "")


def router_without_server(t, greeting):
    """A port that behaves like mysqlrouter whose server is away."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(64)

    def serve():
        while True:
            try:
                c, _ = s.accept()
            except OSError:
                return
            with c:
                c.sendall(greeting)
    threading.Thread(target=serve, daemon=True).start()
    t.defer(s.close)
    t.defer(s.shutdown, socket.SHUT_RDWR)
    return s.getsockname()[1]


def test_mysql_behind_a_router_without_server_is_not_ready(t):
    text = b"Can't connect to remote MySQL server for client connected to '127.0.0.1:6446'"
    error = b"\xff" + (2003).to_bytes(2, "little") + b"#HY000" + text
    port = router_without_server(t, len(error).to_bytes(3, "little") + b"\0" + error)
    says(t, probe(t, "mysql", f"127.0.0.1:{port}", "--user", "x"), 69, "not ready: ")
    port = router_without_server(t, b"")
    says(t, probe(t, "mysql", f"127.0.0.1:{port}", "--user", "x"), 69, "not ready: ")


def test_tcp_and_unix(t):
    port = silent_server(t)
    says(t, probe(t, "tcp", f"127.0.0.1:{port}"), 0, "")
    says(t, probe(t, f"tcp:localhost:{port}"), 0, "")
    says(t, probe(t, "tcp", f"127.0.0.1:{closed_port(t)}"), 69, "refused: ")
    says(t, probe(t, "tcp", "no..such.host:80"), 69, "name not found: ")
    says(t, probe(t, "tcp", "127.0.0.1"), 78, "not HOST:PORT")
    path = t.path("s.sock")
    says(t, probe(t, "unix", path), 69, "refused: ")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        says(t, probe(t, "unix", path), 69, "refused: ")  # the file alone means nothing
        s.listen(1)
        says(t, probe(t, f"unix:{path}"), 0, "")
    says(t, probe(t, "unix", "/" + "x" * 200), 78, "path of a unix socket")


def test_unix_wait_sees_the_socket_appear(t):
    path = t.path("later.sock")
    p = t.start(PROBE, "unix", path, "--wait", "120s")
    civitest.wait_for("the probe to sleep", lambda: sleeps(p.pid))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen(1)
        t.equal(p.wait(), 0, p.text())
    p = t.start(PROBE, "unix", t.path("folder", "later.sock"), "--wait", "120s")  # not even the folder is there
    os.mkdir(t.path("folder"))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(t.path("folder", "later.sock"))
        s.listen(1)
        t.equal(p.wait(), 0, p.text())


def test_unix_wait_sees_a_stale_socket_come_to_life(t):
    path = t.path("stale.sock")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        p = t.start(PROBE, "unix", path, "--wait", "120s")
        civitest.wait_for("the probe to sleep", lambda: sleeps(p.pid))
        s.listen(1)
        t.equal(p.wait(), 0, p.text())


def http_server(t, certificate=None):
    import http.server
    import ssl

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path.strip("/").split("?")[0]))
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 100000)

        def log_message(self, *a):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *a: None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    t.defer(server.server_close)
    t.defer(server.shutdown)
    return server.server_address[1]


def test_http(t):
    url = f"http://127.0.0.1:{http_server(t)}"
    says(t, probe(t, "http", f"{url}/200"), 0, "")
    says(t, probe(t, f"{url}/302"), 0, "")
    says(t, probe(t, "http", f"{url}/503"), 69, "not ready: status 503")
    says(t, probe(t, "http", f"{url}/404"), 69, "not ready: status 404")
    says(t, probe(t, "http", f"{url}/403"), 77, "access denied: status 403")
    says(t, probe(t, "http", f"{url}/404", "--status", "404"), 0, "")
    says(t, probe(t, "http", f"{url}/302", "--status", "200-299"), 69, "not ready")
    done = probe(t, "http", f"{url}/500?key=s3cret")
    t.equal(done.returncode, 69)
    t.lacks(done.stderr, "s3cret")
    says(t, probe(t, "http", f"http://127.0.0.1:{closed_port(t)}/"), 69, "refused: ")
    says(t, probe(t, "http", "ftp://127.0.0.1/"), 64, "no http")


def test_https(t):
    good, other = authority(t), tls.Authority(t.path("other"))
    url = f"https://localhost:{http_server(t, good.server('localhost', name='web'))}/200"
    says(t, probe(t, "http", url, "--ca", good.ca), 0, "")
    says(t, probe(t, "http", url, "--ca", other.ca), 69, "TLS: ")
    says(t, probe(t, "http", url.replace("localhost", "127.0.0.1"), "--ca", good.ca), 69, "TLS: ")


def test_dns(t):
    says(t, probe(t, "dns", "localhost"), 0, "")
    says(t, probe(t, "dns:no..such.host"), 69, "name not found: ")
    says(t, probe(t, "dns", "x/NONSENSE"), 78, "none of A, AAAA")


def name_server(t, known):
    """A real UDP name server of one A record; its port."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                query, peer = s.recvfrom(512)
            except OSError:
                return
            if not query:
                return
            end = query.index(b"\0", 12) + 5
            name = b".".join(split_labels(query[12:])).decode()
            found = name == known and query[end - 4:end - 2] == b"\0\1"
            head = query[:2] + (b"\x85\x80" if found else b"\x85\x83") + b"\0\1" + (b"\0\1" if found else b"\0\0") + b"\0\0\0\0"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\4\x7f\0\0\1" if found else b""
            s.sendto(head + query[12:end] + answer, peer)

    def end():
        s.sendto(b"", s.getsockname())
        thread.join(10)
        s.close()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    t.defer(end)
    return s.getsockname()[1]


def split_labels(data):
    while data[0]:
        yield data[1:1 + data[0]]
        data = data[1 + data[0]:]


def test_dns_asks_a_server(t):
    port = name_server(t, "db.civi.test")
    says(t, probe(t, "dns", f"db.civi.test@127.0.0.1:{port}"), 0, "")
    says(t, probe(t, "dns", f"db.civi.test/A@127.0.0.1:{port}"), 0, "")
    says(t, probe(t, "dns", f"db.civi.test/MX@127.0.0.1:{port}"), 69, "name not found: ")
    says(t, probe(t, "dns", f"other.civi.test@127.0.0.1:{port}"), 69, "name not found: ")


def test_exec(t):
    says(t, probe(t, "exec", "true"), 0, "")
    says(t, probe(t, "exec", "--", "sh", "-c", "echo first; echo the last line >&2; exit 3"), 69, "exit code 3: the last line")
    says(t, probe(t, "exec", "sh", "-c", "kill -9 $$"), 69, "signal 9")
    says(t, probe(t, "exec", t.path("none")), 78, "No such file")
    flag = t.path("flag")
    p = t.start(PROBE, "exec", "--wait", "120s", "test", "-e", flag)
    civitest.wait_for("the probe to sleep", lambda: sleeps(p.pid))
    t.write("flag", "")
    t.equal(p.wait(), 0, p.text())


def running(marker):
    """Whether a process has the marker in its command line (numbers of processes are soon used again)."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
            if marker.encode() in f.read():
                return True
    return False


def test_exec_late_is_killed_with_its_children(t):
    began, marker = t.path("began"), f"1000.{os.getpid()}{os.getppid()}"
    done = probe(t, "exec", "--timeout", "3s", "--", "sh", "-c", f"sleep {marker} & echo >{began}; sleep {marker}; exit 0")
    says(t, done, 69, "timed out: ")
    assert os.path.exists(began)
    civitest.wait_for("the end of the command and its children", lambda: not running(marker))


def test_smtp(t):
    good, other = authority(t), tls.Authority(t.path("other"))
    certificate = good.server("localhost", name="mail")
    password, wrong = t.write("password", "secret\n"), t.write("wrong", "nope-hidden\n")
    for how, scheme in (("starttls", "smtp"), ("implicit", "smtps")):
        server = mailserver.Smtp(t, certificate, "site", "secret", tls=how)
        url = f"{scheme}://localhost:{server.port}"
        account = ("--user", "site", "--password-file", password)
        says(t, probe(t, "smtp", url, *account, "--ca", good.ca), 0, "")
        says(t, probe(t, "smtp", url, *account, "--ca", other.ca), 69, "TLS: ")
        says(t, probe(t, "smtp", url.replace("localhost", "127.0.0.1"), *account, "--ca", good.ca), 69, "TLS: ")
        done = probe(t, "smtp", url, "--user", "site", "--password-file", wrong, "--ca", good.ca)
        says(t, done, 77, "access denied: ")
        t.contains(done.stderr, "535")
        t.lacks(done.stderr, "nope-hidden")
        server.say(AUTH="454 4.7.0 Temporary authentication failure")
        says(t, probe(t, "smtp", url, *account, "--ca", good.ca), 69, "not ready: ")
        server.say()
        says(t, probe(t, "smtp", url, *account, "--ca", good.ca), 0, "")
        t.equal(server.messages(), [])
        server.stop()
        says(t, probe(t, "smtp", url, *account, "--ca", good.ca), 69, "refused: ")


def test_smtp_insists_on_tls_and_login(t):
    server = mailserver.Smtp(t, tls=None)
    password = t.write("password", "secret\n")
    url = f"smtp://localhost:{server.port}"
    says(t, probe(t, "smtp", url), 69, "TLS: ")
    says(t, probe(t, "smtp", url.replace("smtp:", "smtp+plain:")), 0, "")
    done = probe(t, "smtp", url.replace("smtp:", "smtp+plain:"), "--user", "site", "--password-file", password)
    says(t, done, 77, "offers no login")
    says(t, probe(t, "smtp", "http://localhost/"), 78, "none of smtp://")


def test_imap(t):
    good, other = authority(t), tls.Authority(t.path("other"))
    server = mailserver.Imap(t, good.server("localhost", name="imap"), "site", "secret")
    password, wrong = t.write("password", "secret\n"), t.write("wrong", "nope\n")
    for url in (f"imap://localhost:{server.port}", f"imaps://localhost:{server.tls_port}"):
        says(t, probe(t, "imap", url, "--user", "site", "--password-file", password, "--ca", good.ca), 0, "")
        says(t, probe(t, "imap", url, "--user", "site", "--password-file", wrong, "--ca", good.ca), 77, "access denied: ")
        says(t, probe(t, "imap", url, "--user", "site", "--password-file", password, "--ca", other.ca), 69, "TLS: ")
    ini = t.write("cron.ini", f"[mail]\nimap = imap://localhost:{server.port}\nimap_user = site\nimap_password_file = {password}\n"
                              f"ca = {good.ca}\ntimeout = 30s\n")
    says(t, probe(t, "imap", "--config", ini), 0, "")
    says(t, probe(t, "smtp", "--config", ini), 78, "smtp is missing")


def test_command_line(t):
    t.equal(probe(t).returncode, 64)
    t.equal(probe(t, "bogus", "x").returncode, 64)
    t.equal(probe(t, "tcp").returncode, 64)
    t.equal(probe(t, "tcp", "a:1", "b:2").returncode, 64)
    t.equal(probe(t, "tcp", "a:1", "--wait", "5").returncode, 64)  # the unit is missing
    t.equal(probe(t, "tcp", "a:1", "--nonsense").returncode, 64)
    t.contains(probe(t, "--help").stdout, "usage: civinit-probe")
    t.match(probe(t, "--version").stdout, r"^civinit-probe \d")


civitest.main(globals())
