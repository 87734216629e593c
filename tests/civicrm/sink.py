"""A mail server for tests that misbehaves on command, and a mailbox folder for what comes back.

    sink = Sink(maildir)        # listens on 127.0.0.1:25 and 465, account mailer / mailerpass
    sink.encrypt(certificate, key)  # 25: STARTTLS, and no login without; 465: TLS from the first byte. encrypt(): plain, both
    sink.mode = "refuse-login"  # ok, refuse-login, refuse-recipients, defer, hang, drop
    sink.accepted               # addresses in the order in which their mail was accepted
    sink.ports                  # for each of them: the port, and whether its connection was encrypted
    sink.pause_at(7)            # the 7th mail from now waits before its answer: sink.paused.wait(), sink.go()
    sink.close(); sink.open()   # down, and up again

What is for gone…@… is accepted and comes back to the sender's mailbox as a report, as from a remote server.
"""
import base64
import contextlib
import email.message
import email.utils
import os
import re
import socket
import socketserver
import ssl
import threading
import time

USER, PASSWORD = "mailer", "mailerpass"
PORT, TLS_PORT = 25, 465


class Handler(socketserver.StreamRequestHandler):
    encrypted = False

    def say(self, line):
        self.connection.sendall(line.encode() + b"\r\n")

    def encrypt(self, sink):
        """From here on by TLS."""
        plain = self.connection
        self.connection = sink.context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)
        with sink.lock:
            sink.connections.discard(plain)
            sink.connections.add(self.connection)
        self.rfile.close()
        self.rfile = self.connection.makefile("rb")
        self.encrypted = True

    def line(self):
        got = self.rfile.readline()
        if not got:
            raise ConnectionError
        return got.decode("latin1").rstrip("\r\n")

    def handle(self):
        sink = self.server.sink
        with sink.lock:
            sink.connections.add(self.connection)
        try:
            if sink.mode == "hang":
                sink.hung.set()
                sink.unhang.wait()
                return
            if sink.context and self.server.server_address[1] == TLS_PORT:
                self.encrypt(sink)
            self.say("220 mail.civi.test ESMTP")
            self.session(sink)
        except (ConnectionError, OSError, ValueError):
            pass
        finally:
            with sink.lock:
                sink.connections.discard(self.connection)
            self.connection.close()

    def session(self, sink):
        user, sender, recipients = None, "", []
        while True:
            line = self.line()
            verb = line.upper()
            bare = sink.context is not None and not self.encrypted
            if verb.startswith("EHLO"):
                self.say("250-mail.civi.test\r\n" + ("250-STARTTLS" if bare else "250-AUTH PLAIN LOGIN") + "\r\n250 8BITMIME")
            elif verb == "STARTTLS" and bare:
                self.say("220 go ahead")
                self.encrypt(sink)
                user = None
            elif bare and verb.startswith(("AUTH", "MAIL", "RCPT", "DATA")):
                self.say("530 5.7.0 Must issue a STARTTLS command first")
            elif verb.startswith("HELO"):
                self.say("250 mail.civi.test")
            elif verb.startswith("AUTH"):
                user = self.login(sink, line.split())
            elif verb.startswith("MAIL FROM"):
                sender, recipients = re.sub(r".*<(.*)>.*", r"\1", line), []
                self.say("250 ok" if user else "530 5.7.0 log in first")
            elif verb.startswith("RCPT TO"):
                if sink.mode == "refuse-recipients":
                    self.say("550 5.1.1 no such user")
                elif sink.mode == "defer":
                    self.say("451 4.7.1 come back later")
                else:
                    recipients.append(re.sub(r".*<(.*)>.*", r"\1", line))
                    self.say("250 ok")
            elif verb == "DATA":
                if sink.mode == "drop":
                    return
                self.say("354 go on")
                self.data(sink, sender, recipients)
            elif verb in ("RSET", "NOOP"):
                self.say("250 ok")
            elif verb == "QUIT":
                return self.say("221 bye")
            else:
                self.say("500 what?")

    def login(self, sink, words):
        if words[1].upper() == "PLAIN":
            if len(words) < 3:
                self.say("334 ")
                words.append(self.line())
            given = base64.b64decode(words[2]).decode().split("\0")[1:]
        else:
            given = []
            for prompt in (b"Username:", b"Password:"):
                self.say("334 " + base64.b64encode(prompt).decode())
                given.append(base64.b64decode(self.line()).decode())
        ok = given == [USER, PASSWORD] and sink.mode != "refuse-login"
        self.say("235 welcome" if ok else "535 5.7.8 authentication failed")
        return ok

    def data(self, sink, sender, recipients):
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b".\n"):
            if not line:
                raise ConnectionError
            lines.append(line[1:] if line.startswith(b"..") else line)
        sink.take(sender, recipients, b"".join(lines).replace(b"\r\n", b"\n"), (self.server.server_address[1], self.encrypted))
        self.say("250 taken")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class Sink:
    def __init__(self, maildir):
        self.maildir, self.mode, self.accepted, self.ports, self.servers, self.context = maildir, "ok", [], [], [], None
        self.lock = threading.Lock()
        self.connections, self._stop_in = set(), 0
        self.paused, self.hung, self.unhang, self._go = (threading.Event() for _ in range(4))
        self.open()

    def open(self):
        for port in (PORT, TLS_PORT):
            server = Server(("127.0.0.1", port), Handler)
            server.sink = self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            self.servers.append(server)

    def close(self):
        """Down: nobody listens, and what is open ends."""
        self.unhang.set()
        self._go.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()
        self.servers = []
        with self.lock:
            for c in self.connections:
                with contextlib.suppress(OSError):
                    c.shutdown(socket.SHUT_RDWR)

    def encrypt(self, certificate=None, key=None):
        """New connections are, with this certificate; or none is."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if context:
            context.load_cert_chain(certificate, key)
        self.context = context

    def reset(self):
        if not self.servers:
            self.open()
        self.encrypt()
        self.unhang.set()
        self._go.set()
        self.mode, self.accepted, self.ports, self._stop_in = "ok", [], [], 0
        for e in (self.paused, self.hung, self.unhang, self._go):
            e.clear()

    def pause_at(self, nth):
        self.paused.clear()
        self._go.clear()
        self._stop_in = nth

    def go(self):
        self._go.set()

    def take(self, sender, recipients, message, port):
        with self.lock:
            self.accepted += recipients
            self.ports += [port] * len(recipients)
            self._stop_in -= 1
            stop = self._stop_in == 0
        if stop:
            self.paused.set()
            self._go.wait()
        for r in recipients:
            if r.startswith("gone"):
                self.send_back(sender, r, message)
            else:
                self.store("people", message)

    def store(self, user, message):
        folder = os.path.join(self.maildir, user, "Maildir")
        name = f"{time.time_ns()}.{threading.get_ident()}.civi"
        with open(os.path.join(folder, "tmp", name), "wb") as f:
            f.write(message)
        os.rename(os.path.join(folder, "tmp", name), os.path.join(folder, "new", name))

    def send_back(self, sender, recipient, message):
        """A delivery status notification (RFC 3464) for the sender's mailbox."""
        m = email.message.EmailMessage()
        m["From"], m["To"], m["Subject"] = "MAILER-DAEMON@remote.test", sender, "Undelivered mail"
        m["Date"], m["Auto-Submitted"] = email.utils.formatdate(), "auto-replied"
        m.set_content(f"<{recipient}>: 550 5.1.1 user unknown")
        m.make_mixed()
        status = email.message.Message()
        status["Reporting-MTA"] = "dns; remote.test"
        detail = email.message.Message()
        detail["Final-Recipient"], detail["Action"], detail["Status"] = f"rfc822; {recipient}", "failed", "5.1.1"
        detail["Diagnostic-Code"] = "smtp; 550 5.1.1 user unknown"
        report = email.message.Message()
        report["Content-Type"] = "message/delivery-status"
        report.set_payload([status, detail])
        headers = email.message.Message()
        headers["Content-Type"] = "text/rfc822-headers"
        headers.set_payload(message.split(b"\n\n", 1)[0].decode("latin1"))
        m.attach(report)
        m.attach(headers)
        m.replace_header("Content-Type", m["Content-Type"].replace("multipart/mixed", "multipart/report; report-type=delivery-status"))
        self.store("bounces", m.as_bytes())
