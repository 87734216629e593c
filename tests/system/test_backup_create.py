#!/usr/bin/env python3
"""civinit-backup create: a dump and a tree go in, and come out again by tar and the database's client."""
import contextlib
import http.server
import json
import os
import pty
import socket
import stat
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb
from mariadb import shared_end  # noqa: F401

BACKUP = civitest.program("civinit-backup")
_filled = False


def server():
    global _filled
    s = mariadb.Server.shared()
    if not _filled:
        backupdata.databases(s)
        backupdata.account(s)
        _filled = True
    return s


def archives(t, folder=None):
    return sorted(n for n in os.listdir(folder or t.path("archives")) if n != ".civinit-backup.lock")


def create(t, config, *more, want=0, **options):
    done = t.run(BACKUP, "create", "--config", config, *more, seconds=150, **options)
    t.equal(done.returncode, want, f"exit code; {done.stderr}")
    return done


def one(t):
    names = archives(t)
    t.equal(len(names), 1, f"archives {names}")
    return t.path("archives", names[0])


def verify(t, path, want=0):
    done = t.run(BACKUP, "verify", "--config", t.write("none.ini", "[backup]\n"), path, seconds=150)
    t.equal(done.returncode, want, f"verify: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def manifest(t, path):
    return json.loads(subprocess.run(["tar", "-xOf", path, "MANIFEST.json"], check=True, capture_output=True).stdout)


def untar(t, archive, folder, unpack):
    done = t.run("tar", unpack, "-xpf", archive, "-C", folder, "--xattrs", "--acls", seconds=150)
    # GNU tar's word about a name that is not UTF-8; nothing else may be said.
    said = [line for line in done.stderr.splitlines() if "hdrcharset" not in line]
    t.equal((done.returncode, said), (0, []), "tar")


def load(t, dump):
    """A second server that has loaded the dump."""
    other = mariadb.Server(t)
    with open(dump, "rb") as f:
        done = subprocess.run(["mariadb", "--no-defaults", f"--socket={other.socket}", "--user=root"], stdin=f, capture_output=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return other


def test_database_and_tree_come_back(t):
    s = server()
    tree = backupdata.tree(t.path("tree"))
    listener = socket.socket(socket.AF_UNIX)
    t.defer(listener.close)
    os.chdir(t.path("tree", "sites"))
    listener.bind("socket")
    os.chdir("/")
    os.mkfifo(t.path("tree", "fifo"))
    done = create(t, backupdata.config(t, s, files=[tree]))
    t.contains(done.stderr, "files/tree/fifo: skipped: a FIFO")
    t.contains(done.stderr, "files/tree/sites/socket: skipped: a socket")
    archive = one(t)
    t.match(os.path.basename(archive), r"^paroisse-\d{8}T\d{6}Z\.tar\.gz$")
    t.equal(stat.S_IMODE(os.stat(archive).st_mode), 0o600, "mode")
    t.contains(verify(t, archive), "good")
    os.mkdir(t.path("out"))
    untar(t, archive, t.path("out"), "-z")
    os.remove(t.path("tree", "fifo"))
    os.remove(t.path("tree", "sites", "socket"))
    backupdata.same_tree(t, t.path("out/files/tree"), tree)
    sparse = os.stat(t.path("out/files/tree/sites/sparse"))
    assert sparse.st_blocks * 512 < sparse.st_size / 2, "the holes were filled"
    other = load(t, t.path("out/database.sql"))
    want, got = backupdata.rows(s), backupdata.rows(other)
    t.equal(got.keys(), want.keys(), "objects")
    for name in want:
        t.equal(got[name], want[name], str(name))


def test_manifest_tells_what_and_how(t):
    s = server()
    tree = backupdata.tree(t.path("tree"))
    create(t, backupdata.config(t, s, files=[f"site={tree}"], exclude="*/templates_c/* settings.php"))
    m = manifest(t, one(t))
    t.equal(m["format"], "civinit-backup 1")
    counts = {d["name"]: d for d in m["databases"]}
    t.equal(counts["civicrm"], {"name": "civicrm", "tables": 5, "views": 1, "triggers": 2, "routines": 2, "events": 1})
    t.equal(counts["drupal"]["views"], 1)
    t.equal(m["dump"]["missing_grants"], "")
    assert "--single-transaction" in m["dump"]["options"], m["dump"]
    paths = [e["path"] for e in m["entries"]]
    t.equal(paths[0], "database.sql")
    assert "files/site/sites/default/files/templates_c" in paths
    assert "files/site/sites/default/files/templates_c/x.tpl.php" not in paths
    assert "files/site/sites/default/settings.php" not in paths
    t.equal(m["roots"][0]["excluded"], 2)
    t.lacks(json.dumps(m), "cr\\\"et")
    listed = subprocess.run(["tar", "-tzf", one(t), "--quoting-style=literal"], check=True, capture_output=True).stdout
    t.equal(len(listed.splitlines()) - 1, len(paths) + 1, "entries")  # one name holds a newline; and the manifest


def test_caches_as_structure_only(t):
    s = server()
    create(t, backupdata.config(t, s, structure_only="cache_* civicrm.civicrm_cache"))
    subprocess.run(["tar", "-xzf", one(t), "-C", t.dir, "database.sql"], check=True)
    other = load(t, t.path("database.sql"))
    t.equal(other.sql("SELECT COUNT(*) FROM drupal.cache_render"), [["0"]])
    t.equal(other.sql("SELECT COUNT(*) FROM civicrm.civicrm_cache"), [["0"]])
    t.equal(other.sql("SELECT COUNT(*) FROM drupal.node"), [["1"]])
    t.equal(manifest(t, one(t))["dump"]["structure_only"], ["civicrm.civicrm_cache", "drupal.cache_render"])


def test_structure_only_with_a_client_that_lacks_the_option(t):
    """MySQL's client has no --ignore-table-data: the structure is dumped by a run of its own."""
    s = server()
    program = t.write("mysqldump", '#!/bin/sh\ncase "$*" in *--help*) exec mariadb-dump "$@" | grep -v ignore-table-data;; esac\n'
                                   'exec mariadb-dump "$@"\n', 0o755)
    create(t, backupdata.config(t, s, structure_only="cache_* civicrm_contact", dump_program=program))
    verify(t, one(t))
    subprocess.run(["tar", "-xzf", one(t), "-C", t.dir, "database.sql"], check=True)
    other = load(t, t.path("database.sql"))
    t.equal(other.sql("SELECT COUNT(*) FROM civicrm.civicrm_contact"), [["0"]])
    t.equal(other.sql("SELECT COUNT(*) FROM civicrm.civicrm_active"), [["0"]])
    t.equal(other.sql("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'civicrm'"), [["2"]])
    t.equal(other.sql("SELECT COUNT(*) FROM drupal.node"), [["1"]])


def test_every_missing_grant_is_named(t):
    s = server()
    rights = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"]
    for lacking in rights:
        backupdata.account(s, "poor", ", ".join(r for r in rights if r != lacking))
        done = create(t, backupdata.config(t, s, user="poor"), want=77)
        t.contains(done.stderr, f"{lacking} on civicrm, {lacking} on drupal, {lacking} on civilog")
    backupdata.account(s, "poor", routines=False)
    done = create(t, backupdata.config(t, s, user="poor"), want=77)
    t.contains(done.stderr, "SELECT on mysql.proc (for the routines of civicrm)")
    t.equal(archives(t), [])


def test_allow_incomplete_is_recorded(t):
    s = server()
    backupdata.account(s, "poor2", "SELECT, SHOW VIEW, EVENT")
    done = create(t, backupdata.config(t, s, user="poor2"), "--allow-incomplete")
    t.contains(done.stderr, "the account lacks TRIGGER on civicrm")
    t.contains(manifest(t, one(t))["dump"]["missing_grants"], "TRIGGER on civicrm")


def test_pieces_on_a_pipe_and_when_appending(t):
    s = server()
    backupdata.bulk(s, 6)
    config = backupdata.config(t, s)
    try:
        with open(t.path("piped.tar.gz"), "wb") as out:
            first = subprocess.Popen([BACKUP, "create", "--config", config, "--to", "-"], stdout=subprocess.PIPE)
            subprocess.run(["cat"], stdin=first.stdout, stdout=out, check=True, timeout=150)
            t.equal(first.wait(60), 0)
        with open(t.path("appended.tar.gz"), "ab") as out:
            t.equal(subprocess.run([BACKUP, "create", "--config", config, "--to", "-"], stdout=out, timeout=150).returncode, 0)
        with open(t.path("redirected.tar.gz"), "wb") as out:
            t.equal(subprocess.run([BACKUP, "create", "--config", config, "--to", "-"], stdout=out, timeout=150).returncode, 0)
    finally:
        s.sql("DROP TABLE civicrm.bulk")
    dumps = []
    for name in ("piped", "appended", "redirected"):
        path = t.path(f"{name}.tar.gz")
        verify(t, path)
        m = manifest(t, path)
        pieces = [e for e in m["entries"] if e["path"].startswith("database.sql")]
        t.equal(len(pieces) > 1, name != "redirected", f"{name}: pieces {pieces}")
        t.equal(m["dump"]["size"], sum(p["size"] for p in pieces))
        dump = subprocess.run(["tar", "-xOzf", path, "--wildcards", "database.sql*"], check=True, capture_output=True).stdout
        dumps.append(dump[:dump.rindex(b"-- Dump completed")])
        with open(path, "rb") as f:
            verified = subprocess.run([BACKUP, "verify", "-"], stdin=f, capture_output=True, timeout=150)
        t.equal(verified.returncode, 0, verified.stderr)
    t.equal(dumps[0] == dumps[2] and dumps[1] == dumps[2], True, "the same dump, cut or not")


def test_every_compression_over_tcp(t):
    s = server()
    tree = backupdata.tree(t.path("tree"))
    config = backupdata.config(t, s, files=[tree], tcp=True)
    for kind, ending, unpack in (("fast", ".tar.gz", "-z"), ("zstd", ".tar.zst", "--zstd"), ("none", ".tar", "--no-auto-compress")):
        create(t, config, "--compression", kind, "--threads", "3")
        archive = one(t)
        assert archive.endswith(ending), archive
        verify(t, archive)
        os.mkdir(t.path(kind))
        untar(t, archive, t.path(kind), unpack)
        backupdata.same_tree(t, t.path(kind, "files/tree"), tree)
        os.remove(archive)


def test_list_reads_the_end_only(t):
    tree = backupdata.tree(t.path("tree"), noise=6_000_000)
    config = backupdata.config(t, files=[tree])
    for kind in ("default", "fast", "zstd", "none"):
        create(t, config, "--compression", kind)
        archive = one(t)
        done = t.run(BACKUP, "list", "--config", config, "latest")
        t.contains(done.stdout, "files/tree/sites/hard.php -> files/tree/sites/default/settings.php"
                   if "hard.php ->" in done.stdout else "files/tree/sites/default/settings.php -> files/tree/sites/hard.php")
        t.contains(done.stdout, "new\\012line")
        m = manifest(t, archive)
        t.equal(len(done.stdout.splitlines()), m["count"])
        with open(archive, "r+b") as f:  # destroy the middle: a listing does not look there, verify does
            f.seek(3_000_000)
            f.write(bytes(b ^ 0x55 for b in b"x" * 64))
        again = t.run(BACKUP, "list", "--config", config, archive)
        t.equal((again.returncode, again.stdout), (0, done.stdout), f"{kind}: {again.stderr}")
        verify(t, archive, want=65)
        os.remove(archive)
    t.equal(t.run(BACKUP, "list", "--config", config).stdout, "")


def test_very_many_entries_make_parts(t):
    os.makedirs(t.path("tree"))
    name = "a name that is long enough to fill the listing soon " * 4
    for i in range(9000):
        os.symlink("nowhere", t.path("tree", f"{name}{i}"))
    config = backupdata.config(t, files=[t.path("tree")])
    for kind in ("default", "fast", "zstd", "none"):
        create(t, config, "--compression", kind)
        archive = one(t)
        m = manifest(t, archive)
        assert m["parts"] >= 1, m["parts"]
        t.equal(len(m["part_offsets"]), m["parts"])
        t.contains(verify(t, archive), "9001 entries")
        # Only the parts are read: what stands before them may be damaged.
        with open(archive, "r+b") as f:
            f.seek(m["part_offsets"][0] // 2)
            damage = bytes(b ^ 0x55 for b in f.read(64))
            f.seek(m["part_offsets"][0] // 2)
            f.write(damage)
        verify(t, archive, want=65)
        listed = t.run(BACKUP, "list", "--config", config, archive)
        t.equal(len(set(listed.stdout.splitlines())), 9001, f"{kind}: {listed.stderr}")
        os.remove(archive)


def test_nothing_is_replaced_and_one_at_a_time(t):
    tree = backupdata.tree(t.path("tree"))
    config = backupdata.config(t, files=[tree])
    for _ in range(3):
        create(t, config)
    t.equal(len(archives(t)), 3, "three within seconds")
    held = subprocess.Popen(["flock", t.path("archives/.civinit-backup.lock"), "sh", "-c", "echo held; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    t.defer(held.wait)
    t.defer(held.stdin.close)
    held.stdout.readline()
    done = create(t, config, want=75)
    t.contains(done.stderr, "another backup is running there")


def test_state_and_hooks(t):
    tree = backupdata.tree(t.path("tree"))
    config = backupdata.config(t, files=[tree], on_failure=f"cat > {t.path('told')}")
    create(t, config, "--verify")
    with open(t.path("state/backup.json")) as f:
        good = json.load(f)
    t.equal((good["last"]["outcome"], good["last"]["verified"], good["instance"]), ("success", True, "paroisse"))
    t.equal(good["last"]["file"], archives(t)[0])
    t.equal(good["last"]["bytes"], os.path.getsize(one(t)))
    t.equal(os.path.exists(t.path("told")), False)
    create(t, config, "--files", "/no/such/folder", want=66)
    with open(t.path("state/backup.json")) as f:
        bad = json.load(f)
    t.equal((bad["last"]["outcome"], bad["last_success"]), ("failure", good["last_success"]))
    t.contains(bad["last"]["reason"], "/no/such/folder")
    with open(t.path("told")) as f:
        t.equal(json.load(f)["exit"], 66)


class Listener(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.heard.append((self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
        self.send_response(200)
        self.end_headers()
    do_POST = do_GET

    def log_message(self, *_):
        pass


def test_pings_and_failure_hook_over_http(t):
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    web.heard = []
    threading.Thread(target=web.serve_forever, daemon=True).start()
    t.defer(web.server_close)
    t.defer(web.shutdown)
    at = f"http://127.0.0.1:{web.server_port}"
    tree = backupdata.tree(t.path("tree"), noise=1000)
    config = backupdata.config(t, files=[tree], ping=f"{at}/ping/uuid", on_failure=f"{at}/failed")
    create(t, config)
    t.equal([x[:2] for x in web.heard], [("GET", "/ping/uuid/start"), ("GET", "/ping/uuid")])
    web.heard.clear()
    create(t, config, "--files", "/no/such/folder", want=66)
    t.equal([x[:2] for x in web.heard], [("GET", "/ping/uuid/start"), ("GET", "/ping/uuid/fail"), ("POST", "/failed")])
    told = json.loads(web.heard[2][2])
    t.equal((told["instance"], told["outcome"], told["exit"]), ("paroisse", "failure", 66))
    web.shutdown()
    web.server_close()
    t.contains(create(t, config).stderr, "warning: ping: ")  # nobody listens: a warning only


def test_the_jobs_lock_is_taken(t):
    helper = civitest.program("civinit-jobs-helper")
    if not os.path.exists(helper):
        raise civitest.Skip("no civinit-jobs-helper")
    s = server()
    config = backupdata.config(t, s, databases=["drupal"], lock="jobs")
    create(t, config)
    holder = t.start(helper, "lock", "--config", config, "--name", "jobs", stdin=subprocess.PIPE)
    holder.wait_text("^held")
    done = create(t, config, want=75)
    t.contains(done.stderr, "the jobs' lock jobs is held")
    t.equal(len(archives(t)), 1)
    holder.popen.stdin.close()
    t.equal(holder.wait(), 0)
    create(t, config)


def test_progress_on_a_terminal(t):
    tree = backupdata.tree(t.path("tree"), noise=2_000_000)
    config = backupdata.config(t, files=[tree])
    for quiet in (False, True):
        ours, theirs = pty.openpty()
        p = subprocess.Popen([BACKUP, "create", "--config", config] + ["--quiet"] * quiet, stderr=theirs, stdin=subprocess.DEVNULL)
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while chunk := os.read(ours, 4096):
                seen += chunk
        os.close(ours)
        t.equal(p.wait(60), 0, seen)
        t.equal(b"files    [" in seen, not quiet, seen)
        t.contains(seen.decode().split("\r")[-2], "entries in")


def test_wrong_command_lines(t):
    config = backupdata.config(t)
    for arguments, code, text in ((["create", "--config", config], 78, "nothing to back up"), (["create", "--nonsense"], 64, "--help"),
                                  (["verify"], 64, "no archive"), (["crate"], 64, 'did you mean "create"'), (["verify", "/no/such/x.tar.gz"], 66, "/no/such"),
                                  (["create", "--config", config, "--compression", "rar"], 64, "default, fast, zstd or none"),
                                  (["create", "--config", config, "--to", "ftp://x/y"], 78, "nothing"), (["prune", "--config", config], 64, "no rule"),
                                  (["list", "--config", t.write("e.ini", "[backup]\ndestnation = x\n")], 78, "problem")):
        done = t.run(BACKUP, *arguments)
        t.equal(done.returncode, code, f"{arguments}: {done.stderr}")
        t.contains(done.stderr, text)
    for command in ("create", "verify", "list", "prune"):
        t.contains(t.run(BACKUP, command, "--help").stdout, f"usage: civinit-backup {command}")


civitest.main(globals())
