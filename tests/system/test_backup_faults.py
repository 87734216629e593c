#!/usr/bin/env python3
"""civinit-backup when things go wrong: no final name that does not verify, no exit code 0, no litter."""
import contextlib
import fcntl
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import termios
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb
from mariadb import shared_end  # noqa: F401

BACKUP = civitest.program("civinit-backup")
LOCK = ".civinit-backup.lock"
_filled = False


def server():
    global _filled
    s = mariadb.Server.shared()
    if not _filled:
        backupdata.databases(s)
        backupdata.account(s)
        backupdata.bulk(s, 3)
        _filled = True
    return s


def archives(t):
    return sorted(n for n in os.listdir(t.path("archives")) if n != LOCK)


def finals(t):
    return [n for n in archives(t) if not n.startswith(".")]


def verify_code(path):
    return subprocess.run([BACKUP, "verify", "--quiet", path], capture_output=True, timeout=150).returncode


def create(t, config, *more, want=None, **options):
    done = t.run(BACKUP, "create", "--config", config, *more, seconds=150, **options)
    if want is not None:
        t.equal(done.returncode, want, f"exit code; {done.stderr}")
    return done


class Held:
    """A session that holds a table, so that a dump stops there until it is let go."""

    def __init__(self, t, s, table="civicrm.civicrm_email"):
        self.server = s
        self.client = subprocess.Popen(["mariadb", "--no-defaults", f"--socket={s.socket}", "--user=root", "--batch", "--skip-column-names", "--unbuffered"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        t.defer(self.release)
        self.client.stdin.write(f"LOCK TABLES {table} WRITE; SELECT 'held';\n")
        self.client.stdin.flush()
        t.equal(self.client.stdout.readline(), "held\n")

    def wait_stuck(self, process):
        """Until the dump waits for the table; the connection's number."""
        def look():
            assert process.popen.poll() is None, process.text()
            found = self.server.sql("SELECT id FROM information_schema.PROCESSLIST WHERE user = 'dump' AND state LIKE 'Waiting for table%'")
            return found and found[0][0]
        return civitest.wait_for("the dump to be stuck", look)

    def release(self):
        with contextlib.suppress(OSError):
            self.client.stdin.close()
        self.client.wait(60)


def children(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    return []


def stuck(t, **options):
    s = options.pop("server", None) or server()
    held = Held(t, s, options.pop("table", "civicrm.civicrm_email"))
    p = t.start(BACKUP, "create", "--config", backupdata.config(t, s, **options))
    connection = held.wait_stuck(p)
    assert archives(t)[0].endswith(".part"), archives(t)
    return s, held, p, connection


def test_killed_dump(t):
    _, held, p, _ = stuck(t)
    dump = children(p.pid)[0]
    os.kill(dump, signal.SIGKILL)
    t.equal(p.wait(), 69)
    t.contains(p.text(), "was killed by signal 9")
    t.equal(archives(t), [])


def test_the_password_is_nowhere_to_be_seen(t):
    s, held, p, _ = stuck(t)
    with open(os.path.join(s.folder, "password.dump"), "rb") as f:
        password = f.read().strip()
    for pid in (p.pid, *children(p.pid)):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as f:
                assert password not in f.read(), f"{name} of {pid}"
    assert children(p.pid)
    held.release()
    t.equal(p.wait(), 0, p.text())
    t.lacks(p.text(), password.decode())


def test_databases_that_write_into_one_another_are_of_one_moment(t):
    """A trigger of civicrm writes into civilog, after the snapshot and before the dump comes to civilog."""
    s, held, p, _ = stuck(t, table="drupal.node")
    s.sql("INSERT INTO civicrm.civicrm_contact (display_name) VALUES ('Later')")
    t.defer(s.sql, "DELETE FROM civicrm.civicrm_contact WHERE display_name = 'Later'; DELETE FROM civilog.log_contact")
    t.equal(s.sql("SELECT display_name FROM civilog.log_contact"), [["Later"]])
    held.release()
    t.equal(p.wait(), 0, p.text())
    dump = subprocess.run(["tar", "-xOzf", t.path("archives", finals(t)[0]), "database.sql"], check=True, capture_output=True).stdout
    assert b"CREATE TABLE `log_contact`" in dump
    assert b"Later" not in dump


def test_killed_connection(t):
    s, held, p, connection = stuck(t)
    s.sql(f"KILL {connection}")
    t.equal(p.wait(), 69)
    t.match(p.text(), r"error: (mariadb-dump|mysqldump) ended with \d+: .*")
    t.equal(archives(t), [])


def test_lost_database(t):
    s = mariadb.Server(t)
    backupdata.databases(s)
    backupdata.account(s)
    _, held, p, _ = stuck(t, server=s)
    s.kill()
    t.equal(p.wait(), 69)
    t.equal(archives(t), [])
    done = create(t, backupdata.config(t, s), want=69)
    t.contains(done.stderr, s.socket)


def test_signals_leave_nothing(t):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        _, held, p, _ = stuck(t)
        dump = children(p.pid)[0]
        p.signal(number)
        t.equal(p.wait(), -number)
        t.equal(archives(t), [])
        t.equal(civitest.alive(dump), False, "the dump program is gone")
        t.contains(p.text(), f"stopped by signal {int(number)}")
        held.release()


def test_sigkill_is_swept_by_the_next_run(t):
    _, held, p, _ = stuck(t)
    p.signal(signal.SIGKILL)
    p.wait()
    held.release()
    t.equal(len(archives(t)), 1)
    done = create(t, backupdata.config(t, server()), want=0)
    t.contains(done.stderr, "1 unfinished archive of earlier runs removed")
    t.equal(len(archives(t)), 1)
    t.equal(verify_code(t.path("archives", finals(t)[0])), 0)


def test_truncated_meanwhile_is_tried_again(t):
    """1412: the table is truncated after the snapshot began, before the dump reaches it."""
    s, held, p, _ = stuck(t)
    s.sql("TRUNCATE TABLE drupal.cache_render")
    held.release()
    t.equal(p.wait(), 0, p.text())
    t.contains(p.text(), "attempt 2 of 3")
    path = t.path("archives", finals(t)[0])
    t.equal(verify_code(path), 0)
    m = json.loads(subprocess.run(["tar", "-xOzf", path, "MANIFEST.json"], check=True, capture_output=True).stdout)
    t.equal(m["dump"]["attempts"], 2)


def test_dump_programs_that_lie(t):
    s = server()
    for name, script, code, text in (
            ("no-end", 'case "$*" in *--databases*) mariadb-dump "$@" | head -c 3000; exit 0;; esac; exec mariadb-dump "$@"', 65, "without its closing line"),
            ("late-error", 'mariadb-dump "$@"; case "$*" in *--databases*) exit 3;; esac', 69, "ended with 3"),
            ("no-triggers", 'case "$*" in *--databases*) exec mariadb-dump "$@" --skip-triggers;; esac; exec mariadb-dump "$@"', 65, "0 triggers of database civicrm"),
            ("no-routines", 'case "$*" in *--databases*) exec mariadb-dump "$@" --skip-routines;; esac; exec mariadb-dump "$@"', 65, "0 routines of database civicrm"),
            ("empty", 'case "$*" in *--databases*) exit 0;; esac; exec mariadb-dump "$@"', 65, "without its closing line")):
        program = t.write(name, f"#!/bin/sh\n{script}\n", 0o755)
        done = create(t, backupdata.config(t, s, dump_program=program), want=code)
        t.contains(done.stderr, text)
        t.equal(archives(t), [], name)
    done = create(t, backupdata.config(t, s, dump_program="/no/such/mysqldump"), want=69)
    t.contains(done.stderr, "install the database's client")
    done = create(t, backupdata.config(t, s, databases=["civicrm", "nowhere"]), want=66)
    t.contains(done.stderr, "database nowhere: is not there")


def test_full_disk(t):
    tree = backupdata.tree(t.path("tree"), noise=3_000_000)
    config = backupdata.config(t, files=[tree])
    limit = 1_000_000
    done = subprocess.run([BACKUP, "create", "--config", config], capture_output=True, text=True, timeout=150,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    t.equal(done.returncode, 74, done.stderr)
    t.contains(done.stderr, "File too large")
    t.equal(archives(t), [])
    os.mkdir(t.path("small"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", t.path("small")], capture_output=True).returncode:
        raise civitest.Skip("no tmpfs can be mounted here")
    t.defer(lambda: subprocess.run(["umount", t.path("small")], check=True))
    done = create(t, config, "--to", t.path("small"), want=74)
    t.contains(done.stderr, "No space left on device")
    t.equal(os.listdir(t.path("small")), [LOCK])
    subprocess.run(["mount", "-o", "remount,size=64k", t.path("small")], check=True)
    done = create(t, config, "--to", t.path("small"), want=73)
    t.contains(done.stderr, "at least")
    t.equal(os.listdir(t.path("small")), [LOCK])


def small_archive(t, *more):
    s = server()
    tree = backupdata.tree(t.path("tree"), noise=100_000)
    create(t, backupdata.config(t, s, files=[tree], databases=["drupal"]), *more, want=0)
    return t.path("archives", finals(t)[0])


def inflates_alike(damaged, good):
    try:
        d = zlib.decompressobj(31)
        out = d.decompress(damaged) + d.flush()
        return d.eof and not d.unused_data and out == good
    except zlib.error:
        return False


def test_verify_finds_every_flipped_bit(t):
    archive = small_archive(t)
    with open(archive, "rb") as f:
        data = f.read()
    good = gzip.decompress(data)
    rng = random.Random(7)
    found = 0
    for _ in range(150):
        at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        damaged = data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]
        path = t.write("damaged.tar.gz", damaged)
        # Some bits mean nothing: the time in the gzip header, the padding before a stored block.
        want = 0 if inflates_alike(damaged, good) else 65
        t.equal(verify_code(path), want, f"bit {bit} of byte {at} of {len(data)}")
        found += want == 65
    assert found > 100, found
    for cut in (0, 1, 3, 9, 10, 2000, len(data) // 2, len(data) - 9, len(data) - 8, len(data) - 1):
        t.equal(verify_code(t.write("cut.tar.gz", data[:cut])), 65, f"cut at {cut}")
    t.equal(verify_code(t.write("more.tar.gz", data + b"x")), 65, "something at the end")
    t.equal(verify_code(t.write("twice.tar.gz", data + data)), 65, "twice")


def test_verify_finds_flipped_bits_of_zstd(t):
    archive = small_archive(t, "--compression", "zstd")
    with open(archive, "rb") as f:
        data = f.read()
    rng = random.Random(7)
    for _ in range(60):
        at = rng.randrange(len(data))
        path = t.write("damaged.tar.zst", data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1:])
        t.equal(verify_code(path), 65, f"byte {at}")
    t.equal(verify_code(t.write("cut.tar.zst", data[:-3])), 65, "cut")


def rebuilt(t, archive, change):
    """The archive's entries after change([(TarInfo, data)]), in an archive that decompresses well."""
    with tarfile.open(archive) as f:
        entries = [(m, f.extractfile(m).read() if m.isreg() else None) for m in f]
    entries = change(entries)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as f:
        for m, data in entries:
            if data is not None:
                m.size = len(data)
            m.pax_headers = {}
            f.addfile(m, io.BytesIO(data) if data is not None else None)
    return t.write("rebuilt.tar.gz", gzip.compress(out.getvalue(), 1))


def test_verify_compares_with_the_manifest(t):
    archive = small_archive(t)
    named = "files/tree/sites/default/files/text.log"

    def edit(name, function):
        return lambda entries: [(m, function(d) if m.name == name else d) for m, d in entries]

    def extra(entries):
        m = tarfile.TarInfo("files/tree/extra")
        return entries[:-1] + [(m, b"x")] + entries[-1:]

    def foreign(entries):
        return [(tarfile.TarInfo("etc/passwd"), b"x")] + entries

    def no_closing_line(entries):
        import hashlib
        dump = entries[0][1]
        cut = dump[:dump.rindex(b"-- Dump completed")]
        manifest = entries[-1][1].replace(hashlib.sha256(dump).hexdigest().encode(), hashlib.sha256(cut).hexdigest().encode())
        manifest = manifest.replace(f'"size": {len(dump)}'.encode(), f'"size": {len(cut)}'.encode())
        return [(entries[0][0], cut)] + entries[1:-1] + [(entries[-1][0], manifest)]
    t.equal(verify_code(rebuilt(t, archive, lambda e: e)), 0, "unchanged")
    for change, text in ((edit(named, lambda d: d[:-1] + b"X"), f"{named}: is not what the manifest says"),
                         (lambda entries: [x for x in entries if x[0].name != named], f"{named}: is in the manifest, but missing"),
                         (extra, "1 entry is there that the manifest does not list"), (foreign, "etc/passwd: an entry that does not belong"),
                         (lambda entries: [entries[1], entries[0]] + entries[2:], "that the manifest does not list"),
                         (lambda entries: entries[:-1], "has no MANIFEST.json"), (no_closing_line, "lacks its closing line"),
                         (lambda entries: entries + entries[1:2], "stands after the manifest"),
                         (edit("MANIFEST.json", lambda d: d.replace(b'"parts": 0', b'"parts": 3')), "earlier parts"),
                         (edit("MANIFEST.json", lambda d: d[:200]), "MANIFEST.json")):
        done = t.run(BACKUP, "verify", rebuilt(t, archive, change))
        t.equal(done.returncode, 65, f"{text}: {done.stdout}{done.stderr}")
        t.contains(done.stderr, text)


def stalled(t, *more, names=("big.bin",)):
    """A backup of a large file to a pipe that nobody reads yet: it waits in the middle of the file."""
    os.makedirs(t.path("tree"))
    for name in names:
        path = t.write(f"tree/{name}", os.urandom(24 << 20))
    config = backupdata.config(t, files=[t.path("tree")])
    reading, writing = os.pipe()
    p = t.start(BACKUP, "create", "--config", config, "--to", "-", *more, stdout=writing)
    os.close(writing)

    # Noise does not shrink: with the pipe full there is far more of the file to come than the stages can hold.
    civitest.wait_for("the pipe to be full", lambda: full(reading))
    return p, reading, path


def full(fd):
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder) >= 14 * 4096  # a page may be filled in part


def drain(t, reading):
    with open(reading, "rb") as f, open(t.path("piped.tar.gz"), "wb") as out:
        shutil.copyfileobj(f, out)
    return t.path("piped.tar.gz")


def test_files_that_change_while_read(t):
    for n, (change, word) in enumerate(((lambda path: os.truncate(path, 1000), "shrank while it was read"),
                                        (lambda path: open(path, "ab").write(b"more"), "grew while it was read"),
                                        (lambda path: os.utime(path), "was written while it was read"))):
        for strict in (False, True):
            p, reading, path = stalled(t, *["--strict"] * strict)
            change(path)
            piped = drain(t, reading)
            t.equal(p.wait(), 65 if strict else 0, p.text())
            t.contains(p.text(), word)
            t.equal(verify_code(piped), 65 if strict else 0, word)
            if not strict:
                m = json.loads(subprocess.run(["tar", "-xOzf", piped, "MANIFEST.json"], check=True, capture_output=True).stdout)
                t.equal(m["warnings"][0]["path"], "files/tree/big.bin")
                t.equal(m["entries"][-1]["size"], 24 << 20)
            shutil.rmtree(t.path("tree"))


def test_a_file_that_vanishes(t):
    """Two files: one is being read, the other is gone before its turn comes; the names of both are known by then."""
    for strict in (False, True):
        p, reading, _ = stalled(t, *["--strict"] * strict, names=("one.bin", "two.bin"))
        for name in ("one.bin", "two.bin"):
            os.remove(t.path("tree", name))
        piped = drain(t, reading)
        t.equal(p.wait(), 65 if strict else 0, p.text())
        t.equal(p.text().count("vanished before it was read"), 1, p.text())
        t.equal(verify_code(piped), 65 if strict else 0)
        if not strict:
            m = json.loads(subprocess.run(["tar", "-xOzf", piped, "MANIFEST.json"], check=True, capture_output=True).stdout)
            t.equal([w["what"] for w in m["warnings"]], ["vanished before it was read"])
            t.equal(sum(x["type"] == "file" for x in m["entries"]), 1)
        shutil.rmtree(t.path("tree"))


def test_a_reader_that_goes_away(t):
    p, reading, _ = stalled(t)
    os.close(reading)
    t.equal(p.wait(), 74)
    t.contains(p.text(), "Broken pipe")


def test_a_signal_while_the_reader_hangs(t):
    p, reading, _ = stalled(t)
    p.signal(signal.SIGTERM)
    t.equal(p.wait(), -signal.SIGTERM)
    t.equal(verify_code(drain(t, reading)), 65)


def test_unreadable_file_fails(t):
    if os.geteuid() != 0:
        raise civitest.Skip("only root can make a file that another may not read")
    tree = t.path("tree")
    os.makedirs(tree)
    t.write("tree/open", "x")
    t.write("tree/secret", "x", 0o600)
    config = backupdata.config(t, files=[tree])
    os.chmod(t.path("archives"), 0o777)
    p = t.start(BACKUP, "create", "--config", config, user=65534)
    t.equal(p.wait(), 77)
    t.match(p.text(), r"files/tree/secret: Permission denied")
    t.equal(archives(t), [])


def test_memory_is_flat(t):
    if civitest.SAN:
        raise civitest.Skip("the sanitizers need memory of their own")
    s = server()
    os.makedirs(t.path("tree"))
    config = backupdata.config(t, s, files=[t.path("tree")])
    found = {}
    for megabytes in (20, 160):
        with open(t.path("tree/data"), "wb") as f:
            for i in range(megabytes // 4):
                f.write(os.urandom(2_000_000) + bytes(range(250)) * 8000)
        for kind in ("default", "fast", "zstd"):
            found[megabytes, kind] = backupdata.peak([BACKUP, "create", "--config", config, "--compression", kind, "--threads", "2"])
        found[megabytes, "verify"] = max(backupdata.peak([BACKUP, "verify", t.path("archives", n)]) for n in finals(t))
        for n in finals(t):
            os.remove(t.path("archives", n))
    print("peak MB", {f"{m} {k}": round(v, 1) for (m, k), v in found.items()})
    for (megabytes, kind), value in found.items():
        assert value <= 32, f"{kind} of {megabytes} MB: {value} MB"
    for kind in ("default", "fast", "zstd", "verify"):
        assert found[160, kind] <= found[20, kind] * 1.1 + 1, f"{kind}: {found}"


def piped_peaks(create, verify):
    """The peak memory in MiB of both ends of a pipe, which are started by a small process."""
    measure = ("import json, os, subprocess, sys\n"
               "create, verify = json.load(sys.stdin)\n"
               "null = subprocess.DEVNULL\n"
               "a = subprocess.Popen(create, stdin=null, stdout=subprocess.PIPE, stderr=null)\n"
               "b = subprocess.Popen(verify, stdin=a.stdout, stdout=null, stderr=null)\n"
               "a.stdout.close()\n"
               "ends = [os.wait4(p.pid, 0) for p in (a, b)]\n"
               "assert not any(status for _, status, _ in ends), ends\n"
               "print(json.dumps([usage.ru_maxrss / 1024 for _, _, usage in ends]))")
    done = subprocess.run([sys.executable, "-S", "-c", measure], input=json.dumps([create, verify]), check=True, capture_output=True, text=True, timeout=580)
    return json.loads(done.stdout)


def test_memory_is_flat_to_5_gb(t):
    """Half of it a dump, by a dump program that only writes; half of it a tree: one folder under many names. No disk is needed."""
    if civitest.SAN:
        raise civitest.Skip("the sanitizers need memory of their own")
    s = server()
    s.sql("CREATE DATABASE IF NOT EXISTS nothing")
    backupdata.account(s, databases=("nothing", *backupdata.DATABASES))
    os.makedirs(t.path("tree"))
    with open(t.path("tree/data"), "wb") as f:
        for _ in range(25):
            f.write(os.urandom(1_000_000) + b"a line of a log, which compresses well\n" * 25_000)
    found = {}
    for megabytes in (100, 5000):
        program = t.write(f"dump{megabytes}", f"""#!/bin/sh
case "$*" in *--databases*) ;; *) exec mariadb-dump "$@";; esac
printf -- '-- Current Database: `nothing`\\n\\nCREATE DATABASE `nothing`;\\nUSE `nothing`;\\n'
yes "DO 'what a dump may hold, again and again: $(seq -s, 900)';" | head -c {megabytes // 2}000000
printf '\\n-- Dump completed on 2026-03-01\\n'
""", 0o755)
        roots = [f"root{i}={t.path('tree')}" for i in range(megabytes // 100)]
        config = backupdata.config(t, s, name=f"{megabytes}.ini", databases=["nothing"], files=roots, dump_program=program)
        found[megabytes] = piped_peaks([BACKUP, "create", "--config", config, "--to", "-", "--compression", "fast", "--threads", "2"],
                                       [BACKUP, "verify", "-"])
    print("peak MB of create and verify", {k: [round(x, 1) for x in v] for k, v in found.items()})
    for small, large in zip(found[100], found[5000]):
        assert large <= 32 and large <= small * 1.1, found


test_memory_is_flat_to_5_gb.limit = 600

civitest.main(globals())
