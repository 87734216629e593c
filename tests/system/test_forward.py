#!/usr/bin/env python3
"""civinit-forward against a real forward server (Fluentd's own for Node.js, tests/forward/setup)."""
import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))
import civitest
import tls
from civitest import free_port, program, wait_for

FORWARD = program("civinit-forward")
MODULES = os.path.join(os.environ.get("CIVINIT_NPM") or "/var/cache/civinit-tests/npm", "node_modules/@fluent-org/logger")
TIME = "2026-03-01T12:00:00.123Z"


def server(t, **options):
    """A running forward server; .port, .records() so far."""
    if not shutil.which("node") or not os.path.isdir(MODULES):
        raise civitest.Skip("no forward server: run tests/forward/setup (needs npm)")
    s = t.start("node", os.path.join(ROOT, "tests/forward/server.js"), json.dumps(options))
    s.port = int(s.wait_text(r"^port (\d+)$")[1])
    # Only whole lines: the last one may still be on its way.
    s.records = lambda: [json.loads(x) for x in s.text().split("\n")[1:-1]]
    s.numbers = lambda: [r["record"]["n"] for r in s.records()]
    return s


def arrived(s, count):
    """The numbers of the records, once that many are there: the server acknowledges before it prints."""
    wait_for(f"{count} records", lambda: len(s.records()) >= count)
    return s.numbers()


def all_arrived(numbers, *servers):
    """Waits until the servers have each of these records at least once."""
    wait_for("all records", lambda: set(numbers) <= {n for s in servers for n in s.numbers()}, every=0.1)


def lines(first, last):
    return b"".join(b'{"time":"%s","service":"apache","n":%d,"message":"record number %d %s"}\n'
                    % (TIME.encode(), n, n, b"x" * 60) for n in range(first, last))


class Forward:
    """A running civinit-forward with our end of its standard input."""

    def __init__(self, t, port, text="", container=""):
        r, self.input = os.pipe()
        ports = [port] if isinstance(port, int) else port
        to = " ".join(p if isinstance(p, str) else f"127.0.0.1:{p}" for p in ports)
        self.run_dir = t.path(f"run{len(t.processes)}")
        os.mkdir(self.run_dir)
        config = t.write(f"forward{len(t.processes)}.ini",
                         f"[container]\nrun_dir = {self.run_dir}\n{container}\n[forward]\nto = {to}\n{text}\n")
        self.process = t.start(FORWARD, "--config", config, stdin=r)
        os.close(r)
        t.defer(self.close)
        self.wait_text, self.text, self.signal = self.process.wait_text, self.process.text, self.process.signal

    def write(self, data):
        while data:
            data = data[os.write(self.input, data):]

    def figures(self):
        """What it tells civinit-statusd."""
        with contextlib.suppress(FileNotFoundError), open(f"{self.run_dir}/forward.json") as f:
            return json.load(f)
        return {}

    def wait_figures(self, **want):
        seen = lambda: {k: v for k, v in self.figures().items() if k in want}
        try:
            wait_for("the figures", lambda: seen() == want)
        except civitest.Late as e:
            raise civitest.Late(f"{e}: {seen()}, not {want}") from None

    def close(self):
        with contextlib.suppress(OSError):
            os.close(self.input)
        self.input = -1

    def end(self, want=0):
        self.close()
        code = self.process.wait(100)
        assert code == want, f"ended with {code}, not {want}:\n{self.text()}"


def test_records_arrive_as_they_are(t):
    s = server(t)
    f = Forward(t, s.port, "tag = civicrm.demo", container="instance = demo")
    f.write(json.dumps({"time": TIME, "service": "apache", "stream": "stderr", "pid": 17, "level": "error", "cut": True,
                        "message": 'a "quoted" café 😀\nof two lines\t\\ \x01'}).encode() + b"\n")
    f.write('{"time":"2024-02-29T23:59:60Z","message":"é€😀","x":-5,"y":1.5,"z":null,"u":12345678901}\n'.encode())
    f.write(b"no JSON \xff here\n" + b'{"a":{"nested":1}}')
    f.end()
    want = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.timezone.utc).timestamp()
    extra = {"instance": "demo", "host": socket.gethostname()}
    wait_for("4 records", lambda: len(s.records()) == 4)
    got = s.records()
    t.equal(got[0], {"tag": "civicrm.demo", "seconds": want, "nanoseconds": 123000000, "record": {
        "service": "apache", "stream": "stderr", "pid": 17, "level": "error", "cut": True,
        "message": 'a "quoted" café 😀\nof two lines\t\\ \x01', **extra}})
    t.equal(got[1]["record"], {"message": "é€😀", "x": -5, "y": 1.5, "z": None, "u": 12345678901, **extra})
    t.equal(got[1]["seconds"], datetime.datetime(2024, 3, 1, tzinfo=datetime.timezone.utc).timestamp())
    t.equal(got[2]["record"], {"message": "no JSON ? here", **extra})
    t.equal(got[3]["record"], {"message": '{"a":{"nested":1}}', **extra})
    t.contains(f.text(), "4 records delivered, 0 dropped")


def test_shared_key_and_user(t):
    key, password = t.write("key", "open sesame\n", 0o600), t.write("password", "its password\n", 0o600)
    s = server(t, key="open sesame", users={"civicrm": "its password"})
    f = Forward(t, s.port, f"shared_key_file = {key}\nuser = civicrm\npassword_file = {password}")
    f.write(lines(0, 10))
    f.end()
    t.equal(arrived(s, 10), list(range(10)))


def refused(t, port, text, message):
    """Gets no record through, says why once, and ends with 69 though records are left."""
    f = Forward(t, port, text + "\nflush = 100ms")
    f.write(lines(0, 3))
    f.wait_text(message)
    f.end(69)
    t.contains(f.text(), "3 records were not delivered")
    t.equal(len(re.findall(message, f.text(), re.M)), 1, "said once")
    t.lacks(f.text(), "open sesame")
    t.lacks(f.text(), "wrong one")


def test_a_refused_login_says_why(t):
    good, bad = t.write("good", "open sesame"), t.write("bad", "wrong one")
    s = server(t, key="open sesame")
    refused(t, s.port, f"shared_key_file = {bad}", rf"error: 127\.0\.0\.1:{s.port}: the server refuses the login: shared key mismatch$")
    refused(t, s.port, "", r"error: \S+: the server wants a shared key: \[forward\] shared_key_file is not set$")
    s = server(t, key="open sesame", users={"civicrm": "secret"})
    refused(t, s.port, f"shared_key_file = {good}", r"the server refuses the login: missing authentication information: \[forward\] user is not set$")
    refused(t, s.port, f"shared_key_file = {good}\nuser = civicrm\npassword_file = {bad}",
            r"the server refuses the login: username/password mismatch$")
    t.equal(s.records(), [])


def test_a_login_without_an_answer_says_what_may_be_wrong(t):
    """As Fluent Bit answers a wrong key (not at all), and any server that wants none (it waits)."""
    key = t.write("key", "open sesame")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        f = Forward(t, listener.getsockname()[1], f"shared_key_file = {key}\nflush = 100ms")
        f.write(lines(0, 1))
        c, _ = listener.accept()
        c.sendall(b"\x92\xa4HELO\x83\xa5nonce\xc4\x04abcd\xa4auth\xa4salt\xa9keepalive\xc3")
        t.contains(c.recv(1000), b"\x96\xa4PING")
        c.close()
        f.wait_text(r"error: \S+: login: wrong shared key\?: the server closed the connection$")
        c, _ = listener.accept()
        f.end(69)
        t.contains(f.text(), "1 records were not delivered: no greeting: the server does not ask for a shared key")
        c.close()


def test_what_came_while_the_server_was_away_arrives(t):
    port = free_port()
    f = Forward(t, port, "flush = 100s")
    f.wait_text(r"error: 127\.0\.0\.1:\d+: connect: Connection refused$")
    f.write(lines(0, 500))
    s = server(t, port=port)
    wait_for("500 records", lambda: len(s.records()) == 500)
    # And away once more.
    s.signal(signal.SIGTERM)
    s.wait()
    f.wait_text(r"error: .*(closed the connection|reset by peer)")
    f.write(lines(500, 700))
    s2 = server(t, port=port)
    f.end()
    t.equal(s.numbers() + arrived(s2, 200), list(range(700)))


def test_what_a_killed_server_did_not_acknowledge_is_sent_again(t):
    first = server(t)
    f = Forward(t, first.port, "flush = 100s")
    f.write(lines(0, 100))
    wait_for("100 records", lambda: len(first.records()) == 100)
    first.signal(signal.SIGSTOP)  # takes bytes, but acknowledges none
    f.write(lines(100, 2000))
    first.signal(signal.SIGKILL)
    first.wait()
    second = server(t, port=first.port)
    f.write(lines(2000, 3000))
    f.end()
    t.equal(first.numbers(), list(range(100)))
    all_arrived(range(100, 3000), second)


def test_a_server_that_ends_in_mid_stream_loses_nothing(t):
    first = server(t)
    f = Forward(t, first.port, "flush = 100s\nbuffer = 64MiB")
    writer = threading.Thread(target=lambda: f.write(lines(0, 20000)))
    writer.start()
    wait_for("some records", lambda: len(first.records()) >= 100)
    first.signal(signal.SIGTERM)
    first.wait()
    second = server(t, port=first.port)
    writer.join()
    f.end()
    all_arrived(range(20000), first, second)


def dropped(f):
    return sum(int(n) for n in re.findall(r"warning: (\d+) records dropped: no room in the buffer of 65.5 kB", f.text()))


def overflow(t, policy):
    """2000 records into 64 KiB while the server is away: what arrived and how many are said to be dropped."""
    port = free_port()
    f = Forward(t, port, f"flush = 100s\nbuffer = 64KiB\noverflow = {policy}")
    f.write(lines(0, 2000))
    f.wait_text("records dropped")
    s = server(t, port=port)
    f.end(69)
    t.equal(f.figures()["dropped"], dropped(f))
    return arrived(s, int(t.match(f.text(), r"info: (\d+) records delivered")[1])), dropped(f)


def test_the_figures_are_told(t):
    port = free_port()
    f = Forward(t, port, "flush = 100ms\nbuffer = 1MiB")
    f.write(lines(0, 500))
    f.wait_figures(connected=False, waiting=500, unacknowledged=0, delivered=0, connections=0, limit=1 << 20,
                   server=f"127.0.0.1:{port}", problem=f"127.0.0.1:{port}: connect: Connection refused", pid=f.process.pid)
    assert 0 < f.figures()["bytes"] < 1 << 20
    s = server(t, port=port)
    f.wait_figures(connected=True, waiting=0, unacknowledged=0, delivered=500, connections=1, bytes=0, resent=0, dropped=0, problem="")
    s.signal(signal.SIGSTOP)
    f.write(lines(500, 600))
    f.wait_figures(connected=True, waiting=100, unacknowledged=100, delivered=500)
    s.signal(signal.SIGKILL)
    f.wait_figures(connected=False, waiting=100, unacknowledged=0, resent=100, dropped=0)
    f.end(69)
    f.wait_figures(waiting=100, delivered=500, resent=100)


def test_drop_oldest_keeps_the_newest(t):
    numbers, lost = overflow(t, "drop-oldest")
    assert 100 < len(numbers) < 1000, len(numbers)
    t.equal(numbers, list(range(2000 - len(numbers), 2000)))
    t.equal(len(numbers) + lost, 2000)


def test_drop_newest_keeps_the_oldest(t):
    numbers, lost = overflow(t, "drop-newest")
    assert 100 < len(numbers) < 1000, len(numbers)
    t.equal(len(numbers) + lost, 2000)
    t.equal(numbers[:100], list(range(100)))


def test_block_loses_nothing(t):
    port = free_port()
    f = Forward(t, port, "flush = 100s\nbuffer = 64KiB\noverflow = block")
    writer = threading.Thread(target=lambda: f.write(lines(0, 10000)))
    writer.start()
    f.wait_text("Connection refused")
    s = server(t, port=port)
    writer.join()
    f.end()
    t.equal(arrived(s, 10000), list(range(10000)))
    t.lacks(f.text(), "warning")


def test_tls_verifies_the_server(t):
    good, other = tls.Authority(t.path("good")), tls.Authority(t.path("other"))
    cert, private = good.server("localhost", "127.0.0.1")
    s = server(t, cert=cert, private=private, key="open sesame")
    key = t.write("key", "open sesame")
    for host in (f"localhost:{s.port}", f"127.0.0.1:{s.port}"):
        f = Forward(t, [host], f"tls = yes\nca = {good.ca}\nshared_key_file = {key}")
        f.write(lines(0, 5))
        f.end()
    t.equal(arrived(s, 10), list(range(5)) * 2)
    refused(t, s.port, f"tls = yes\nca = {other.ca}\nshared_key_file = {key}",
            r"TLS: the server's certificate is not accepted for 127\.0\.0\.1: (unable to get local issuer certificate|certificate signature failure)$")
    cert, private = good.server("elsewhere.example", name="elsewhere")
    s = server(t, cert=cert, private=private)
    refused(t, [f"localhost:{s.port}"], f"tls = yes\nca = {good.ca}",
            r"TLS: the server's certificate is not accepted for localhost: hostname mismatch$")
    t.equal(s.records(), [])


def test_a_server_without_tls_is_noticed(t):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        good = tls.Authority(t.path("good"))
        f = Forward(t, listener.getsockname()[1], f"tls = yes\nca = {good.ca}\nflush = 100ms")
        f.write(lines(0, 1))
        c, _ = listener.accept()
        c.recv(1)
        c.sendall(b"HTTP/1.0 400 no TLS here\r\n\r\n")
        f.wait_text(r"error: \S+: TLS: the handshake: wrong version number$")
        f.end(69)
        c.close()


def test_the_next_server_takes_over(t):
    a, b = server(t), server(t)
    f = Forward(t, [a.port, b.port], "flush = 100s")
    f.write(lines(0, 10))
    wait_for("10 records", lambda: len(a.records()) == 10)
    a.signal(signal.SIGTERM)
    a.wait()
    f.wait_text(rf"connected to 127\.0\.0\.1:{b.port}")
    f.write(lines(10, 20))
    f.end()
    t.equal(arrived(b, 10), list(range(10, 20)))


def test_term_delivers_what_is_there(t):
    s = server(t)
    f = Forward(t, s.port, "flush = 100s")
    f.wait_text("connected")
    f.write(lines(0, 1000))
    f.signal(signal.SIGTERM)
    t.equal(f.process.wait(), 0)
    t.equal(arrived(s, 1000), list(range(1000)))


def test_an_unknown_name_is_said(t):
    f = Forward(t, ["nowhere.invalid"], "flush = 100ms")
    f.write(lines(0, 1))
    # What it is depends on the machine's resolver; a silent one is waited for 10 s.
    f.wait_text(r"error: nowhere\.invalid:24224: (Name or service not known|Temporary failure in name resolution"
                r"|No address associated with hostname|no answer to the name look-up within 10 s)$")
    f.end(69)


def test_a_stranger_on_the_port_is_named(t):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        f = Forward(t, listener.getsockname()[1], "flush = 100ms")
        f.write(lines(0, 1))
        c, _ = listener.accept()
        c.sendall(b"SSH-2.0-x\r\n")
        f.wait_text(r"error: 127\.0\.0\.1:\d+: the server does not speak the forward protocol$")
        f.end(69)
        c.close()


def test_behind_civinit_log(t):
    s = server(t)
    f = Forward(t, s.port)
    r, w = os.pipe()
    log = subprocess.Popen([program("civinit-log"), "--stream", f"fpm:stderr:{r}", "--records", str(f.input), "--no-stdout"],
                           pass_fds=[r, f.input])
    t.defer(log.kill)
    os.close(r)
    os.write(w, b"PHP Fatal error:  Uncaught E: no in /x.php:3\nStack trace:\n#0 {main}\n  thrown in /x.php on line 3\nnext\n")
    os.close(w)
    t.equal(log.wait(60), 0)
    f.end()
    wait_for("2 records", lambda: len(s.records()) == 2)
    got = [x["record"] for x in s.records()]
    t.equal([x["message"] for x in got], ["PHP Fatal error:  Uncaught E: no in /x.php:3\nStack trace:\n#0 {main}\n  thrown in /x.php on line 3", "next"])
    t.equal((got[0]["service"], got[0]["stream"], got[0]["level"]), ("fpm", "stderr", "error"))


def test_a_role_forwards_instead_of_writing(t):
    s = server(t)
    role = t.write("role.ini", f"""[container]
main = a
log = text
instance = demo
run_dir = {t.path("run")}
[service a]
command = sh -c 'echo hello; echo "civi: error: no" >&2; exit 7'
restart = never
[forward]
to = 127.0.0.1:{s.port}
tag = civicrm.demo
stdout = no
flush = 60s
""")
    done = t.run(program("civinit"), role, seconds=100)
    t.equal(done.returncode, 7)
    t.equal(done.stdout, "")
    seen = lambda: [(x["tag"], x["record"]["instance"], x["record"]["service"], x["record"]["stream"], x["record"].get("level"),
                     x["record"]["message"]) for x in s.records()]
    for stream, level, message in (("stdout", None, "hello"), ("stderr", "error", "civi: error: no")):
        wait_for(message, lambda: ("civicrm.demo", "demo", "a", stream, level, message) in seen())
    wait_for("civinit's last word", lambda: any(x[2] == "civinit" and "exited with 7" in x[5] for x in seen()))


def test_statusd_tells_what_became_of_the_records(t):
    s = server(t)
    port = free_port()
    role = t.write("role.ini", f"""[container]
main = a
log = json
run_dir = {t.path("run")}
[service a]
command = sleep 1000
[service statusd]
command = {program("civinit-statusd")} --config {t.path("role.ini")} --listen 127.0.0.1:{port}
[forward]
to = 127.0.0.1:{s.port}
""")
    c = t.start(program("civinit"), role)

    def look():
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as r:
            return re.findall(r"^civinit_forward_(\w+) (\S+)$", r.read().decode(), re.M)
    delivered = lambda: {k: float(v) for k, v in look() or []}
    # All that there is to be said; then it is quiet.
    wait_for("statusd's word", lambda: any("listening" in r["record"]["message"] for r in s.records()))
    wait_for("the figures", lambda: delivered().get("delivered_records_total") == len(s.records()))
    t.equal({k: v for k, v in delivered().items() if k in ("connected", "dropped_records_total", "waiting_records")},
            {"connected": 1, "dropped_records_total": 0, "waiting_records": 0})
    c.signal(signal.SIGTERM)
    t.equal(c.wait(100), 0)


def test_the_shipped_drop_in(t):
    authority = tls.Authority(t.path("authority"))
    cert, private = authority.server("127.0.0.1")
    s = server(t, cert=cert, private=private, key="open sesame")
    role = t.write("role.ini", f"""[container]
main = a
run_dir = {t.path('run')}
[service a]
command = sh -c 'echo hello; until [ -e {t.path("arrived")} ]; do sleep 0.05; done'
restart = never
""")
    os.mkdir(t.path("role.d"))
    shutil.copy(os.path.join(ROOT, "config/central/forward.ini"), t.path("role.d"))
    env = {"FORWARD_TO": f"127.0.0.1:{s.port}", "FORWARD_CA": authority.ca, "FORWARD_KEY_FILE": t.write("key", "open sesame\n"),
           "INSTANCE": "demo", "LOG_FORMAT": None}
    check = t.run(program("civinit"), "check", role, env=env)
    t.equal(check.returncode, 0, check.stderr)
    c = t.start(program("civinit"), role, env=env)
    wait_for("hello", lambda: ("civicrm.demo", "hello") in [(x["tag"], x["record"]["message"]) for x in s.records()])
    t.write("arrived", "")
    t.equal(c.wait(100), 0)
    t.contains(c.text(), '"service":"a","stream":"stdout"')


def test_a_wrong_configuration_is_named(t):
    empty = t.write("empty", "\n")
    for text, message in [
        ("", "[forward] to: no server is named"),
        ("to = a:b:c", '[forward] to: "a:b:c" is no HOST:PORT'),
        ("to = a:99999", '[forward] to: "a:99999" is no HOST:PORT'),
        ("to = [::1", '[forward] to: "[::1" is no [ADDRESS]:PORT'),
        ("to = a\nuser = x", "[forward] user: needs shared_key_file and password_file too"),
        ("to = a\nca = /x", "[forward] ca: has no use without tls = yes"),
        ("to = a\ntls = yes\nca = /nowhere", "[forward] ca: /nowhere: No such file"),
        ("to = a\nbuffer = 1KiB", "[forward] buffer: at least 64KiB"),
        ("to = a\nshared_key_file = /nowhere", "[forward] shared_key_file: "),
        (f"to = a\nshared_key_file = {empty}", f"[forward] shared_key_file: {empty} is empty"),
        ("to = a\noverflow = drop", '"drop" is not one of drop-oldest'),
    ]:
        config = t.write("wrong.ini", f"[forward]\n{text}\n")
        done = t.run(FORWARD, "--config", config, "--check")
        t.contains(done.stderr, message)
        assert done.returncode in (66, 74, 77, 78), (text, done.returncode)
    t.equal(t.run(FORWARD).returncode, 64)
    t.equal(t.run(FORWARD, "--config", t.write("good.ini", "[forward]\nto = a\n"), "--check").returncode, 0)
    t.match(t.run(FORWARD, "--version").stdout, r"\Acivinit-forward \d")


civitest.main(globals())
