"""Places where archives go, run privately on loopback: S3 (OpenStack Swift's), SFTP (openssh), WebDAV (Apache's mod_dav).

    place = places.S3(t) | places.Sftp(t) | places.Dav(t)
    place.destination            for [backup] destination
    place.config                 {key: value} for [backup]: how to log in
    place.names()                what lies there, looked at from behind
    proxy = places.Proxy(t, place.port)      HTTP with faults: proxy.rule(method, path) → None, a status, or "cut"
    cutter = places.Cutter(t, place.port)    TCP that breaks: cutter.cut_after(bytes)
"""
import datetime
import hashlib
import hmac
import http.client
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import civitest

# Proxy and Cutter write to connections that break. Programs that tests start get the default back (subprocess).
signal.signal(signal.SIGPIPE, signal.SIG_IGN)

HERE = os.path.dirname(os.path.abspath(__file__))


def _listens(process, port):
    def look():
        if process.popen.poll() is not None:
            raise RuntimeError(f"{process.command} ended with {process.popen.returncode}: {process.text()[-2000:]}")
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    civitest.wait_for(f"a listener on port {port}", look, 120)


def _with_attributes(t):
    """A folder on a file system that keeps user.* attributes, which Swift needs."""
    for top in (None, "/var/tmp", civitest.BUILD):
        folder = tempfile.mkdtemp(prefix="civinit-s3-", dir=top)
        t.defer(shutil.rmtree, folder, True)
        try:
            os.setxattr(folder, "user.test", b"x")
            return folder
        except OSError:
            continue
    raise civitest.Skip("no file system with user.* attributes for Swift")


class S3:
    user, secret = "tester", "top/secret+key=1"

    def __init__(self, t, tls=None, bucket="backups"):
        """tls: a tls.Authority."""
        if not os.path.exists("/usr/lib/python3/dist-packages/swift"):
            raise civitest.Skip("no Swift (python3-swift)")
        self.t, self.tls = t, tls
        self.folder = _with_attributes(t)
        self.port = civitest.free_port()
        self.access, self.bucket = f"test:{self.user}", bucket
        self.context = None
        if tls:
            import ssl
            self.certificate = tls.server("localhost", "127.0.0.1", name="s3")
            self.context = ssl.create_default_context(cafile=tls.ca)
        self.start()
        status, body = self.request("PUT", f"/{bucket}")
        assert status == 200, f"bucket: {status} {body}"
        self.destination = f"s3://{bucket}/site"
        self.config = {"endpoint": f"{'https' if tls else 'http'}://127.0.0.1:{self.port}", "region": "us-east-1",
                       "access_key_file": t.write("s3.access", self.access + "\n", 0o600),
                       "secret_key_file": t.write("s3.secret", self.secret + "\n", 0o600)}
        if tls:
            self.config["ca"] = tls.ca

    def start(self):
        # Debian's interpreter: the packages are its own.
        self.process = self.t.start("/usr/bin/python3", os.path.join(HERE, "s3server.py"), self.folder, self.port, self.user, self.secret,
                                    *(self.certificate if self.tls else ()))
        self.process.wait_text("^ready", 180)

    def request(self, method, path, query="", body=b""):
        """A request signed by hand (AWS Signature Version 4): (status, body)."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        signed = {"host": f"127.0.0.1:{self.port}", "x-amz-content-sha256": digest, "x-amz-date": now}
        canonical = "\n".join([method, path, query, *[f"{k}:{v}" for k, v in signed.items()], "", ";".join(signed), digest])
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.secret).encode()
        for part in (now[:8], "us-east-1", "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers = {**signed, "Authorization": f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={';'.join(signed)}, "
                                              f"Signature={signature}"}
        c = (http.client.HTTPSConnection("127.0.0.1", self.port, timeout=120, context=self.context) if self.tls
             else http.client.HTTPConnection("127.0.0.1", self.port, timeout=120))
        try:
            c.request(method, path + ("?" + query if query else ""), body, headers)
            answer = c.getresponse()
            return answer.status, answer.read().decode()
        finally:
            c.close()

    def names(self):
        status, body = self.request("GET", f"/{self.bucket}", "list-type=2")
        assert status == 200, f"{status} {body}"
        return re.findall("<Key>site/([^<]*)</Key>", body)

    def uploads(self):
        """Uploads that are neither completed nor aborted."""
        status, body = self.request("GET", f"/{self.bucket}", "uploads=")
        assert status == 200, f"{status} {body}"
        return re.findall("<UploadId>([^<]*)</UploadId>", body)


class Sftp:
    def __init__(self, t):
        if not os.path.exists("/usr/sbin/sshd"):
            raise civitest.Skip("no sshd (openssh-server)")
        if os.geteuid():
            raise civitest.Skip("a private sshd needs root here")
        os.makedirs("/run/sshd", exist_ok=True)  # what sshd calls its privilege separation directory
        self.t = t
        self.folder = t.path("sftp")
        os.makedirs(self.folder)
        self.port = civitest.free_port()
        for name in ("host", "key", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", t.path(name)], check=True, stdin=subprocess.DEVNULL)
        self.public = {}
        for name in ("host", "key", "other"):
            with open(t.path(f"{name}.pub")) as f:
                self.public[name] = " ".join(f.read().split()[:2])
        t.write("authorized", self.public["key"] + "\n", 0o600)
        settings = t.write("sshd.conf", f"""Port {self.port}
ListenAddress 127.0.0.1
HostKey {t.path("host")}
PidFile none
AuthorizedKeysFile {t.path("authorized")}
StrictModes no
PasswordAuthentication no
UsePAM no
PermitRootLogin yes
Subsystem sftp internal-sftp
""")
        self.process = t.start("/usr/sbin/sshd", "-D", "-e", "-f", settings)
        _listens(self.process, self.port)
        self.destination = f"sftp://root@127.0.0.1:{self.port}{self.folder}"
        self.config = {"ssh_key_file": t.path("key"), "ssh_known_hosts": self.known(self.port)}

    def known(self, port, key="host"):
        return self.t.write(f"known.{port}.{key}", f"[127.0.0.1]:{port} {self.public[key]}\n")

    def names(self):
        return sorted(os.listdir(self.folder))


class Dav:
    def __init__(self, t, user="backup", password="dav'secret"):
        modules = "/usr/lib/apache2/modules"
        if not os.path.exists(f"{modules}/mod_dav_fs.so"):
            raise civitest.Skip("no Apache with mod_dav (apache2-bin)")
        self.folder = t.path("dav")
        os.makedirs(self.folder)
        os.makedirs(t.path("davlock"))
        self.port = civitest.free_port()
        hashed = subprocess.run(["openssl", "passwd", "-apr1", "-stdin"], input=password + "\n", capture_output=True, text=True, check=True).stdout
        t.write("dav.users", f"{user}:{hashed}")
        load = "".join(f"LoadModule {m}_module {modules}/mod_{m}.so\n" for m in (
            "mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "dav", "dav_fs")
            if os.path.exists(f"{modules}/mod_{m}.so"))
        if os.geteuid() == 0:
            for folder in (self.folder, t.path("davlock")):
                shutil.chown(folder, "www-data", "www-data")
            load += "User www-data\nGroup www-data\n"
        settings = t.write("dav.conf", f"""ServerRoot {t.dir}
DefaultRuntimeDir {t.path("davlock")}
ServerName 127.0.0.1
Listen 127.0.0.1:{self.port}
PidFile {t.path("dav.pid")}
ErrorLog {t.path("dav.log")}
{load}
DavLockDB {t.path("davlock")}/db
DocumentRoot {self.folder}
<Directory />
AllowOverride None
</Directory>
<Directory {self.folder}>
Dav On
AuthType Basic
AuthName backups
AuthUserFile {t.path("dav.users")}
Require valid-user
</Directory>
""")
        self.process = t.start("/usr/sbin/apache2", "-X", "-f", settings)
        _listens(self.process, self.port)
        self.destination = f"http://127.0.0.1:{self.port}"
        self.config = {"login": user, "password_file": t.write("dav.password", password + "\n", 0o600)}

    def names(self):
        """Without the temporary names of mod_dav itself."""
        return sorted(n for n in os.listdir(self.folder) if not n.startswith(".davfs"))


class Proxy:
    """HTTP in between. rule(method, path) is called for each request: None lets it pass, a number is answered instead,
    "cut" breaks the connection, "lose" does so after the server has done what was asked, "damage" changes a byte of the answer, "third" breaks off after a third of it, a function is called and then the request passes."""

    def __init__(self, t, port, rule=lambda method, path: None):
        self.rule = rule
        self.edit = None  # edit(method, path, data) → what is answered instead
        self.seen = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.body()
                outer.seen.append((self.command, self.path))
                verdict = outer.rule(self.command, self.path)
                if callable(verdict):
                    verdict = verdict()
                if verdict == "cut":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if verdict and verdict not in ("damage", "lose", "third"):
                    self.reply(verdict, [], b"<Error><Code>SlowDown</Code></Error>")
                    return
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
                c.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for k, v in self.headers.items():
                    if k.lower() == "destination":  # WebDAV's, which must be the server's own address
                        v = v.replace(f":{outer.port}/", f":{port}/")
                    if k.lower() not in ("expect", "connection", "transfer-encoding", "content-length"):
                        c.putheader(k, v)
                if body or self.command in ("PUT", "POST"):
                    c.putheader("Content-Length", str(len(body)))
                c.endheaders(body or None)
                answer = c.getresponse()
                data = answer.read()
                if verdict == "lose":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if outer.edit:
                    data = outer.edit(self.command, self.path, data)
                if verdict == "damage" and data:
                    data = data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:]
                self.reply(answer.status, [(k, v) for k, v in answer.getheaders() if k.lower() not in
                                           ("transfer-encoding", "connection", "content-length")], data, answer.getheader("Content-Length"),
                           len(data) // 3 if verdict == "third" else None)
                c.close()

            def body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                whole = b""
                while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                    whole += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return whole

            def reply(self, status, headers, data, length=None, breaks_at=None):
                self.send_response_only(status)
                for k, v in headers:
                    self.send_header(k, v)
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[:breaks_at])
                if breaks_at is not None:
                    self.close_connection = True

            def log_message(self, *arguments):
                pass

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_MOVE = do_PROPFIND = handle_any

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):
                if not isinstance(sys.exc_info()[1], OSError):  # a connection that broke is the point
                    super().handle_error(request, address)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        t.defer(self.server.server_close)
        t.defer(self.server.shutdown)


class Cutter:
    """TCP in between, which breaks all connections once so many bytes went up."""

    def __init__(self, t, port):
        self.target, self.limit, self.up = port, None, 0
        self.lock = threading.Lock()
        self.open = []
        self.cut = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        t.defer(self.listener.close)
        t.defer(self._break)

    def cut_after(self, count):
        self.limit = count

    def stay_cut(self):
        """Breaks everything, and nobody gets through until mend()."""
        self.cut.set()
        self._break()

    def mend(self):
        self.cut.clear()

    def snap(self):
        """Breaks what is connected now; others may connect afterwards."""
        self._break()

    def _break(self):
        with self.lock:
            for s in self.open:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.open = []

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.cut.is_set():
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            with self.lock:
                self.open += [client, server]
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source, sink, up):
        try:
            while data := source.recv(65536):
                if up:
                    self.up += len(data)
                    if self.limit is not None and self.up > self.limit:
                        self.cut.set()
                        self._break()
                        return
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
