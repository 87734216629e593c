"""Real mail servers, run privately on ports of loopback: SMTP by Debian's aiosmtpd, IMAP by Dovecot.

    smtp = mailserver.Smtp(t, certificate=(pem, key), user="site", password="secret", tls="starttls")
    imap = mailserver.Imap(t, certificate=(pem, key), user="site", password="secret")   # .port .tls_port .mail

smtp.messages() are the mails that arrived; smtp.say(command="451 4.7.0 no") changes an answer while it runs.
Run as a program this file is the SMTP server itself.
"""
import json
import os
import shutil
import subprocess
import sys

PYTHON = "/usr/bin/python3"  # the one that Debian's packages belong to


class Smtp:
    """tls: "starttls" (required), "implicit" or None."""

    def __init__(self, t, certificate=None, user=None, password=None, tls="starttls", port=None):
        import civitest
        if subprocess.run([PYTHON, "-c", "import aiosmtpd"], capture_output=True, timeout=60).returncode:
            raise civitest.Skip("no aiosmtpd")
        self.folder = t.path(f"smtp.{len(t.processes)}")
        os.makedirs(self.folder)
        self.port = port or civitest.free_port()
        self.settings = os.path.join(self.folder, "settings.json")
        with open(self.settings, "w") as f:
            json.dump({"certificate": certificate, "user": user, "password": password, "tls": tls, "port": self.port,
                       "folder": self.folder}, f)
        self.t = t
        self.process = None
        self.start()

    def start(self):
        self.process = self.t.start(PYTHON, os.path.abspath(__file__), self.settings)
        self.process.wait_text("^listening$")

    def stop(self):
        self.process.popen.kill()
        self.process.popen.wait()

    def messages(self):
        names = sorted(n for n in os.listdir(self.folder) if n.endswith(".eml"))
        out = []
        for name in names:
            with open(os.path.join(self.folder, name), errors="replace") as f:
                out.append(f.read())
        return out

    def say(self, **answers):
        """AUTH="535 no", MAIL=…, RCPT=…, DATA=…: what is answered instead; say() goes back to normal."""
        path = os.path.join(self.folder, "answers.json")
        with open(path + ".new", "w") as f:
            json.dump(answers, f)
        os.rename(path + ".new", path)


class Imap:
    def __init__(self, t, certificate, user, password):
        import civitest
        if not shutil.which("dovecot"):
            raise civitest.Skip("no dovecot")
        if os.geteuid() != 0:
            raise civitest.Skip("dovecot is started as root here")
        self.folder = t.path("imap")
        self.port, self.tls_port = civitest.free_port(), civitest.free_port()
        self.mail = os.path.join(self.folder, "mail")
        os.makedirs(self.mail)
        os.chmod(self.mail, 0o777)
        t.write("imap/users", f"{user}:{{PLAIN}}{password}:65534:65534::{self.mail}::\n")
        # Debian's nobody owns the mail; uids below first_valid_uid are not let in.
        config = t.write("imap/dovecot.conf", f"""
protocols = imap
base_dir = {self.folder}/run
state_dir = {self.folder}/run
log_path = {self.folder}/log
mail_location = maildir:{self.mail}
first_valid_uid = 1
first_valid_gid = 1
ssl = required
disable_plaintext_auth = yes
ssl_cert = <{certificate[0]}
ssl_key = <{certificate[1]}
ssl_dh =
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {self.folder}/users
}}
userdb {{
  driver = passwd-file
  args = {self.folder}/users
}}
service imap-login {{
  inet_listener imap {{
    address = 127.0.0.1
    port = {self.port}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {self.tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
""")
        self.process = t.start("dovecot", "-F", "-c", config)
        t.defer(self._end)
        civitest.wait_for("dovecot to listen", self._listens)

    def _listens(self):
        import socket
        if self.process.popen.poll() is not None:
            raise RuntimeError(f"dovecot ended: {self.process.text()}")
        with socket.socket() as s:
            s.settimeout(5)
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def _end(self):
        # SIGTERM: the master ends its children too, which have sessions of their own.
        if self.process.popen.poll() is None:
            self.process.popen.terminate()
            try:
                self.process.popen.wait(30)
            except subprocess.TimeoutExpired:
                pass


def serve(path):
    import asyncio
    import signal
    import ssl

    from aiosmtpd.smtp import SMTP, AuthResult

    with open(path) as f:
        o = json.load(f)

    def answer(command):
        try:
            with open(os.path.join(o["folder"], "answers.json")) as f:
                return json.load(f).get(command)
        except FileNotFoundError:
            return None

    class Handler:
        count = 0

        async def handle_MAIL(self, server, session, envelope, address, options):
            said = answer("MAIL")
            if not said:
                envelope.mail_from = address
            return said or "250 OK"

        async def handle_RCPT(self, server, session, envelope, address, options):
            said = answer("RCPT")
            if not said:
                envelope.rcpt_tos.append(address)
            return said or "250 OK"

        async def handle_DATA(self, server, session, envelope):
            said = answer("DATA")
            if said:
                return said
            Handler.count += 1
            name = os.path.join(o["folder"], f"{os.getpid()}-{Handler.count:06d}")
            with open(name + ".part", "wb") as f:
                f.write(f"X-Recipients: {' '.join(envelope.rcpt_tos)}\n".encode() + envelope.content)
            os.rename(name + ".part", name + ".eml")
            return "250 OK"

    def authenticate(server, session, envelope, mechanism, data):
        said = answer("AUTH")
        if said:
            return AuthResult(success=False, handled=False, message=said)
        good = data.login == o["user"].encode() and data.password == o["password"].encode()
        return AuthResult(success=good, handled=False, message=None if good else "535 5.7.8 Authentication failed")

    context = None
    if o["certificate"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*o["certificate"])
    starttls = o["tls"] == "starttls"

    def factory():
        return SMTP(Handler(), hostname="mail.test", tls_context=context if starttls else None, require_starttls=starttls,
                    authenticator=authenticate if o["user"] else None, auth_require_tls=starttls or not o["user"],
                    auth_required=bool(o["user"]))

    async def run():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", o["port"], ssl=context if o["tls"] == "implicit" else None)
        print("listening", flush=True)
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        async with server:
            await stop.wait()

    asyncio.run(run())


if __name__ == "__main__":
    serve(sys.argv[1])
