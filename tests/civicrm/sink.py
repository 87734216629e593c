"""A mail server for tests that misbehaves on command, and a mailbox folder for what comes back.

    sink = Sink(maildir)        # listens on 127.0.0.1:25, account mailer / mailerpass
    sink.mode = "refuse-login"  # ok, refuse-login, refuse-recipients, defer, hang, drop
    sink.accepted               # addresses in the order in which their mail was accepted
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
import threading
import time

USER, PASSWORD = "mailer", "mailerpass"


class Handler(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

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
            self.say("220 mail.civi.test ESMTP")
            self.session(sink)
        except (ConnectionError, OSError, ValueError):
            pass
        finally:
            with sink.lock:
                sink.connections.discard(self.connection)

    def session(self, sink):
        user, sender, recipients = None, "", []
        while True:
            line = self.line()
            verb = line.upper()
            if verb.startswith("EHLO"):
                self.say("250-mail.civi.test\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME")
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
        sink.take(sender, recipients, b"".join(lines).replace(b"\r\n", b"\n"))
        self.say("250 taken")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class Sink:
    def __init__(self, maildir):
        self.maildir, self.mode, self.accepted, self.server = maildir, "ok", [], None
        self.lock = threading.Lock()
        self.connections, self._stop_in = set(), 0
        self.paused, self.hung, self.unhang, self._go = (threading.Event() for _ in range(4))
        self.open()

    def open(self):
        self.server = Server(("127.0.0.1", 25), Handler)
        self.server.sink = self
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        """Down: nobody listens, and what is open ends."""
        self.unhang.set()
        self._go.set()
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        with self.lock:
            for c in self.connections:
                with contextlib.suppress(OSError):
                    c.shutdown(socket.SHUT_RDWR)

    def reset(self):
        if not self.server:
            self.open()
        self.unhang.set()
        self._go.set()
        self.mode, self.accepted, self._stop_in = "ok", [], 0
        for e in (self.paused, self.hung, self.unhang, self._go):
            e.clear()

    def pause_at(self, nth):
        self.paused.clear()
        self._go.clear()
        self._stop_in = nth

    def go(self):
        self._go.set()

    def take(self, sender, recipients, message):
        with self.lock:
            self.accepted += recipients
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
