#!/usr/bin/env python3
"""civinit-log on real pipes: nothing lost, nothing torn, whatever comes in and whoever stalls."""
import contextlib
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import civitest
from civitest import program, wait_for

LOG = program("civinit-log")
LINES = program("tools/loglines")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Logger:
    """A running civinit-log: `streams` are ("NAME:stdout", …), each with a write end in .ends."""

    def __init__(self, t, *streams, options=(), out=None, records=None, control=False, pipes=None):
        self.pipes = pipes or [os.pipe() for _ in streams]
        self.ends = [w for _, w in self.pipes]
        pass_fds = [r for r, _ in self.pipes]
        command = [LOG, *options]
        for name, (r, _) in zip(streams, self.pipes):
            command += ["--stream", f"{name}:{r}"]
        if control:
            r, self.control = os.pipe()
            pass_fds.append(r)
            command += ["--control", str(r)]
        if records is not None:
            pass_fds.append(records)
            command += ["--records", str(records)]
        self.out_path = t.path(f"log.{len(t.processes)}")
        self.popen = subprocess.Popen(command, pass_fds=pass_fds, stdin=subprocess.DEVNULL, start_new_session=True,
                                      stdout=out if out is not None else open(self.out_path, "wb"),
                                      stderr=open(self.out_path + ".err", "wb"))
        self.pid = self.popen.pid
        t.defer(self.end)

    def catches_term(self):
        """Whether the next SIGTERM would be caught: not before its start and after the first."""
        with open(f"/proc/{self.pid}/status") as f:
            caught = int(re.search(r"SigCgt:\s*(\w+)", f.read())[1], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def close_ends(self):
        for fd in self.ends:
            with contextlib.suppress(OSError):
                os.close(fd)

    def finish(self, want=0):
        """Closes all write ends and waits for the end; the output."""
        self.close_ends()
        code = self.popen.wait(120)
        assert code == want, f"ended with {code}: {self.errors()}"
        with open(self.out_path, "rb") as f:
            return f.read().decode()

    def errors(self):
        with open(self.out_path + ".err") as f:
            return f.read()

    def end(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self.close_ends()
        for r, _ in self.pipes:
            with contextlib.suppress(OSError):
                os.close(r)


def fill(fd, line, most, patience=1):
    """Writes lines until nobody takes any more for `patience` seconds (or `most` bytes are gone); how many bytes went."""
    os.set_blocking(fd, False)
    sent = 0
    chunk = line * 100
    at = 0
    while sent < most:
        try:
            n = os.write(fd, chunk[at:])
            sent += n
            at = (at + n) % len(chunk)
        except BlockingIOError:
            if not select.select([], [fd], [], patience)[1]:
                break
    return sent


def read_all(fd):
    data = bytearray()
    while True:
        part = os.read(fd, 1 << 16)
        if not part:
            return bytes(data)
        data += part


def test_no_torn_line_among_millions(t):
    names = ["apache", "router", "fpm"]
    lines = 200_000 if civitest.SAN else 1_000_000
    r, w = os.pipe()
    log = Logger(t, *[f"{n}:stdout" for n in names], out=w)
    os.close(w)
    checker = subprocess.Popen([LINES, "check", *names], stdin=r, stdout=subprocess.PIPE, text=True)
    t.defer(checker.kill)
    os.close(r)
    writers = [subprocess.Popen([LINES, "write", n, str(lines), str(burst), str(length)], stdout=fd)
               for n, fd, burst, length in zip(names, log.ends, (64, 1000, 7), (120, 333, 65))]
    for p in writers:
        t.defer(p.kill)
    log.close_ends()
    t.equal([p.wait(150) for p in writers], [0, 0, 0])
    t.equal(checker.communicate(timeout=150)[0], "".join(f"{n} {lines}\n" for n in names) + "bad 0\n")
    t.equal(log.popen.wait(60), 0)


def test_everything_is_written_at_the_end(t):
    log = Logger(t, "apache:stderr", "router:stdout", options=["--format", "json"])
    os.write(log.ends[0], b"PHP Fatal error:  Uncaught E: no in /x.php:3\nStack trace:\n#0 {main}\n")
    os.write(log.ends[1], b"a line without its end")
    records = {r["service"]: r for r in map(json.loads, log.finish().splitlines())}
    t.equal(records["apache"]["message"], "PHP Fatal error:  Uncaught E: no in /x.php:3\nStack trace:\n#0 {main}")
    t.equal(records["apache"]["level"], "error")
    t.equal(records["apache"]["stream"], "stderr")
    t.equal(records["router"]["message"], "a line without its end")
    assert "level" not in records["router"] and "pid" not in records["router"], records


def test_formats(t):
    log = Logger(t, "a:stdout", options=["--format", "logfmt"])
    os.write(log.ends[0], b'say "hi"\nERROR: no\n')
    t.match(log.finish(), rf'\Atime={TIME} service=a stream=stdout message="say \\"hi\\""\n'
                          rf'time={TIME} service=a stream=stdout level=error message="ERROR: no"\n\Z')


def test_a_stalled_reader_holds_services_up_within_bounds(t):
    r, w = os.pipe()
    log = Logger(t, "apache:stdout", out=w)
    os.close(w)
    line = b"0123456789" * 10 + b"\n"
    sent = fill(log.ends[0], line, 8 << 20)
    # The pipes in and out and one buffer of a read: no more is taken from a service.
    assert 64 << 10 <= sent <= 2 << 20, f"{sent} bytes were taken while nobody read"
    log.close_ends()
    got = read_all(r).decode()
    os.close(r)
    t.equal(log.popen.wait(60), 0)
    want = (line * (sent // len(line) + 1))[:sent].decode().splitlines()
    t.equal([g.split(" ", 5)[5] for g in got.splitlines()], want)


def test_a_reader_that_made_the_pipe_non_blocking_loses_nothing(t):
    r, w = os.pipe()
    os.set_blocking(w, False)
    log = Logger(t, "apache:stdout", out=w)
    os.close(w)
    line = b"0123456789" * 10 + b"\n"
    sent = fill(log.ends[0], line, 8 << 20)
    log.close_ends()
    got = read_all(r)
    os.close(r)
    t.equal(log.popen.wait(60), 0)
    t.equal(len(got.splitlines()), -(-sent // len(line)))


def test_the_second_term_ends_it_while_the_reader_stalls(t):
    r, w = os.pipe()
    t.defer(os.close, r)
    log = Logger(t, "apache:stdout", out=w)
    os.close(w)
    wait_for("its handler", log.catches_term)
    fill(log.ends[0], b"0123456789" * 10 + b"\n", 8 << 20)
    os.kill(log.pid, signal.SIGTERM)
    wait_for("the first SIGTERM", lambda: not log.catches_term())
    assert log.popen.poll() is None, "ended with unwritten records"
    os.kill(log.pid, signal.SIGTERM)
    t.equal(log.popen.wait(60), -signal.SIGTERM)


def test_term_writes_what_is_there_and_a_successor_goes_on(t):
    first = Logger(t, "apache:stdout")
    wait_for("its handler", first.catches_term)
    os.write(first.ends[0], b"one\ntwo\nPHP Notice:  three on line 3\n")
    os.kill(first.pid, signal.SIGTERM)
    t.equal(first.popen.wait(60), 0)
    with open(first.out_path) as f:
        t.equal([x.split(" ", 5)[5] for x in f.read().splitlines()], ["one", "two", "PHP Notice:  three on line 3"])
    os.write(first.ends[0], b"four\n")
    second = Logger(t, "apache:stdout", pipes=first.pipes)
    t.match(second.finish(), rf"\A{TIME} apache stdout - - four\n\Z")


def test_rubbish_becomes_valid_json(t):
    rubbish = random.Random(5).randbytes(1 << 20)
    log = Logger(t, "apache:stdout", options=["--format", "json"])
    at = 0
    while at < len(rubbish):
        at += os.write(log.ends[0], rubbish[at:at + 5000])
    lines = log.finish().split("\n")
    t.equal(lines.pop(), "")
    want = rubbish.decode("utf-8", "replace").split("\n")
    t.equal(len(lines), len(want))
    for got, line in zip(lines, want):
        t.equal(json.loads(got)["message"].replace("\ufffd", ""), line.replace("\ufffd", ""))


def test_what_php_itself_writes(t):
    if not shutil.which("php"):
        raise civitest.Skip("PHP is not installed (php-cli)")
    script = t.write("x.php", """<?php
function f() { throw new RuntimeException("first line\\nsecond line", 3, new LogicException("inner")); }
trigger_error("a warning", E_USER_WARNING);
f();
""")
    log = Logger(t, "php:stderr", options=["--format", "json"])
    # As from a cron job or php-fpm: to standard error, in one piece.
    done = subprocess.run(["php", "-n", "-d", "log_errors=1", "-d", "display_errors=0", script], capture_output=True, timeout=60)
    os.write(log.ends[0], done.stderr + b"next\n")
    warning, fatal, after = map(json.loads, log.finish().splitlines())
    t.equal((warning["level"], warning["message"]), ("warning", f"PHP Warning:  a warning in {script} on line 3"))
    t.equal((fatal["level"], fatal["message"].count("Stack trace:\n#0 ")), ("error", 2))
    t.match(fatal["message"], r"\APHP Fatal error:  Uncaught LogicException: inner in ")
    t.match(fatal["message"], r"\n\nNext RuntimeException: first line\nsecond line in (.*\n)+  thrown in .* on line 2\Z")
    t.equal(after["message"], "next")


def test_an_endless_line_is_cut(t):
    log = Logger(t, "apache:stdout", options=["--format", "json", "--max-line", "1KiB"])
    for _ in range(100):
        os.write(log.ends[0], b"x" * 4000)
    os.write(log.ends[0], b"\nnext\n")
    long, after = map(json.loads, log.finish().splitlines())
    t.equal(long["message"], "x" * 1024 + f" …[{400000 - 1024} bytes cut]")
    t.equal(long["cut"], True)
    t.equal(after["message"], "next")


def test_control_says_whom_lines_come_from(t):
    log = Logger(t, "apache:stdout", "router:stdout", control=True)
    os.write(log.control, b"rubbish\npid nobody 1\npid apache x\npid apache 42\n")
    os.write(log.ends[0], b"a\n")
    wait_for("a's line", lambda: os.path.getsize(log.out_path))
    os.write(log.control, b"pid apache 43\npid router 44\n")
    os.close(log.control)
    os.write(log.ends[0], b"b\n")
    os.write(log.ends[1], b"c\n")
    got = sorted(re.sub(TIME + " ", "", log.finish()).splitlines())
    t.equal(got, ["apache stdout 42 - a", "apache stdout 43 - b", "router stdout 44 - c"])


def test_services_go_on_when_the_reader_has_gone(t):
    r, w = os.pipe()
    log = Logger(t, "apache:stdout", out=w)
    os.close(w)
    os.close(r)
    line = b"0123456789" * 10 + b"\n"
    t.equal(fill(log.ends[0], line, 8 << 20, patience=100) >= 8 << 20, True, "all was taken")
    log.close_ends()
    t.equal(log.popen.wait(60), 74)
    t.contains(log.errors(), "civinit-log: error: cannot write to standard output: Broken pipe; records are lost")
    t.equal(log.errors().count("\n"), 1)


def test_records_beside_text(t):
    r, w = os.pipe()
    log = Logger(t, "apache:stderr", options=["--format", "text"], records=w)
    os.close(w)
    os.write(log.ends[0], b"PHP Warning:  x on line 1\n#0 y\nplain\n")
    text = log.finish()
    records = [json.loads(x) for x in read_all(r).decode().splitlines()]
    os.close(r)
    t.match(text, rf"\A{TIME} apache stderr - warning PHP Warning:  x on line 1\n{TIME} apache stderr - \| #0 y\n"
                  rf"{TIME} apache stderr - - plain\n\Z")
    t.equal([x["message"] for x in records], ["PHP Warning:  x on line 1\n#0 y", "plain"])


def test_records_go_to_stdout_when_the_forwarder_has_gone(t):
    r, w = os.pipe()
    log = Logger(t, "apache:stdout", options=["--no-stdout"], records=w)
    os.close(w)
    os.write(log.ends[0], b"one\n")
    t.equal(json.loads(os.read(r, 1 << 16))["message"], "one")
    os.close(r)
    os.write(log.ends[0], b"two\n")
    wait_for("the loss", lambda: "records are lost" in log.errors())
    os.write(log.ends[0], b"three\n")
    t.equal([json.loads(x)["message"] for x in log.finish(74).splitlines()], ["three"])


def test_a_full_disk_is_said_once(t):
    full = os.open("/dev/full", os.O_WRONLY)
    log = Logger(t, "apache:stdout", out=full)
    os.close(full)
    for n in range(3):
        t.equal(fill(log.ends[0], b"x" * 99 + b"\n", 1 << 20, patience=100) >= 1 << 20, True, "all was taken")
    log.close_ends()
    t.equal(log.popen.wait(60), 74)
    t.equal(log.errors(), "civinit-log: error: cannot write to standard output: No space left on device; records are lost\n")


def test_a_wrong_command_line_is_named(t):
    for arguments, message in [
        ([], "no --stream: there is nothing to read"),
        (["--stream", "a:stdout:987"], "--stream: descriptor 987: Bad file descriptor"),
        (["--stream", "a:stdin:0"], "--stream: want NAME:stdout:FD or NAME:stderr:FD"),
        (["--stream", "a b:stdout:0"], '--stream: the name "a b" has a blank'),
        (["--stream", "a:stdout:0:xml"], '"xml" is no format: use text, json or logfmt'),
        (["--format", "xml"], '"xml" is no format: use text, json or logfmt'),
        (["--stream", "a:stdout:0", "--no-stdout"], "--no-stdout without --records"),
        (["--stream", "a:stdout:0", "--max-line", "5"], "--max-line: 5 is not between"),
        (["--stream", "a:stdout:0", "x"], '"x" is one argument too many'),
    ]:
        done = t.run(LOG, *arguments)
        t.equal(done.returncode, 64, arguments)
        t.contains(done.stderr, message)
    t.match(t.run(LOG, "--version").stdout, r"\Acivinit-log \d")
    t.contains(t.run(LOG, "--help").stdout, "--stream")


civitest.main(globals())
