#!/usr/bin/env python3
"""Archives made to do harm: nothing outside of the target is touched, and nothing of them is left.

Every archive has a manifest that agrees with it, so that only what is wrong about it can be the reason of a refusal.
"""
import gzip
import hashlib
import io
import json
import os
import stat
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb

BACKUP = civitest.program("civinit-backup")
TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
         "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}


def entry(path, kind="file", data=b"", link="", mode=None, **more):
    return {"path": path, "kind": kind, "data": data, "link": link, "mode": mode, **more}


ROOT = entry("files/site", "dir")


def archive(t, entries, databases=(), name="hostile.tar.gz", manifest=None):
    """A tar.gz of these entries with a manifest of them; its path."""
    out = io.BytesIO()
    lines = []
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        def add(x):
            info = tarfile.TarInfo(x["path"])
            info.type = TYPES[x["kind"]]
            info.linkname = x["link"]
            info.size = len(x["data"])
            info.mode = x["mode"] if x["mode"] is not None else 0o755 if x["kind"] == "dir" else 0o644
            info.mtime = 1700000000
            info.pax_headers = x.get("pax", {})
            info.devmajor, info.devminor = 1, 3
            tar.addfile(info, io.BytesIO(x["data"]))
        for x in entries:
            add(x)
            line = {"path": x["path"], "type": x["kind"], "size": len(x["data"])}
            if x["kind"] == "file":
                line["sha256"] = hashlib.sha256(x["data"]).hexdigest()
            if x["kind"] in ("symlink", "hardlink"):
                line["link"] = x["link"]
            lines.append(json.dumps(line))
        head = {"format": "civinit-backup 1", "program": "test", "instance": "x", "started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:00Z",
                "databases": [{"name": d, **(manifest or {})} for d in databases], "roots": [{"name": "site", "path": "/x", "entries": 1, "bytes": 1}],
                "parts": 0}
        text = json.dumps(head)[:-1] + ',\n"entries": [\n' + ",\n".join(lines) + "\n]}\n"
        add(entry("MANIFEST.json", data=text.encode()))
    return t.write(name, gzip.compress(out.getvalue(), 1))


def restore(t, path, *arguments, config=None):
    config = config or backupdata.config(t, databases=())
    return t.run(BACKUP, "restore", "--config", config, *arguments, path, seconds=150)


def test_the_archives_of_this_test_are_good_but_for_what_is_wrong(t):
    path = archive(t, [ROOT, entry("files/site/a", data=b"a"), entry("files/site/d", "dir"), entry("files/site/l", "symlink", link="d"),
                       entry("files/site/h", "hardlink", link="files/site/a"), entry("files/site/d/up", "symlink", link="../a")])
    done = restore(t, path, "--to-dir", t.path("good"))
    t.equal(done.returncode, 0, done.stderr)
    t.equal(sorted(os.listdir(t.path("good/site"))), ["a", "d", "h", "l"])


OUTSIDE = "OUTSIDE"  # stands for a folder that must stay as it is


def hostile():
    """name → entries. Beside each way out, its form through a link that the archive itself makes."""
    data = b"hostile"
    return {
        "absolute path": [ROOT, entry(f"{OUTSIDE}/x", data=data)],
        "absolute path below files": [ROOT, entry(f"files/{OUTSIDE}/x", data=data)],
        "parent of the root": [ROOT, entry("files/site/../../../escaped", data=data)],
        "parent as the root": [entry("files/..", "dir"), entry("files/../escaped", data=data)],
        "parent in the middle": [ROOT, entry("files/site/a/../../../escaped", data=data)],
        "dot as the root": [entry("files/.", "dir"), entry("files/./escaped", data=data)],
        "empty component": [ROOT, entry("files//site/x", data=data)],
        "symlink to an absolute path": [ROOT, entry("files/site/l", "symlink", link=OUTSIDE)],
        "symlink to a parent": [ROOT, entry("files/site/l", "symlink", link="../../escaped")],
        "symlink by a way back": [ROOT, entry("files/site/d", "dir"), entry("files/site/l", "symlink", link="d/../../escaped")],
        "write through a symlink": [ROOT, entry("files/site/l", "symlink", link=OUTSIDE), entry("files/site/l/x", data=data)],
        "write through a symlink that stays": [ROOT, entry("files/site/d", "dir"), entry("files/site/l", "symlink", link="d"),
                                               entry("files/site/l/x", data=data)],
        "write through two symlinks": [ROOT, entry("files/site/a", "symlink", link="."), entry("files/site/a/b", "symlink", link=".."),
                                       entry("files/site/b/x", data=data)],
        "file over its own symlink": [ROOT, entry("files/site/l", "symlink", link=f"{OUTSIDE}/kept"), entry("files/site/l", data=data)],
        "folder over its own symlink": [ROOT, entry("files/site/l", "symlink", link=OUTSIDE), entry("files/site/l", "dir", mode=0o777)],
        "root that is a symlink": [entry("files/site", "symlink", link=OUTSIDE), entry("files/site/x", data=data)],
        "hardlink to an absolute path": [ROOT, entry("files/site/h", "hardlink", link=f"{OUTSIDE}/kept"), entry("files/site/h", data=data)],
        "hardlink to a parent": [ROOT, entry("files/site/h", "hardlink", link="files/site/../../../kept")],
        "hardlink into another root": [ROOT, entry("files/other", "dir"), entry("files/other/x", data=data),
                                       entry("files/site/h", "hardlink", link="files/other/x")],
        "hardlink through a symlink": [ROOT, entry("files/site/d", "dir"), entry("files/site/d/f", data=data), entry("files/site/l", "symlink", link="d"),
                                       entry("files/site/h", "hardlink", link="files/site/l/f")],
        "hardlink to nothing": [ROOT, entry("files/site/h", "hardlink", link="files/site/missing")],
        "hardlink as the root": [entry("files/site", "hardlink", link=f"{OUTSIDE}/kept")],
        "character device": [ROOT, entry("files/site/null", "char")],
        "block device": [ROOT, entry("files/site/disk", "block")],
        "fifo": [ROOT, entry("files/site/fifo", "fifo")],
        "the same file twice": [ROOT, entry("files/site/a", data=b"first"), entry("files/site/a", data=data)],
        "file in place of a folder": [ROOT, entry("files/site/d", "dir"), entry("files/site/d", data=data)],
        "folder below a file": [ROOT, entry("files/site/f", data=data), entry("files/site/f/x", data=data)],
        "an entry of nobody": [ROOT, entry("etc/cron.d/x", data=data)],
        "root without a folder": [entry("files/site", data=data)],
    }


def test_no_archive_leaves_its_folder(t):
    outside = t.path("outside")
    t.write("outside/kept", "as it was")
    before = backupdata.describe(outside)
    os.makedirs(t.path("in"))
    for name, entries in hostile().items():
        for x in entries:
            x["path"], x["link"] = x["path"].replace(OUTSIDE, outside), x["link"].replace(OUTSIDE, outside)
        path = archive(t, entries)
        for more in ((), ("--no-verify",), ("--no-verify", "--allow-external-links")):
            done = restore(t, path, "--to-dir", t.path("in/target"), *more)
            if "symlink" in name and "--allow-external-links" in more and done.returncode == 0:
                # A link that leads outside may be made when asked for: but nothing went through it.
                assert not any(x["data"] for x in entries), f"{name}: {more}: was restored"
                restored = t.path("in/target/site")
                t.equal(os.path.islink(f"{restored}/l"), True, name)
                for link in os.listdir(restored):
                    (os.rmdir if os.path.isdir(f"{restored}/{link}") and not os.path.islink(f"{restored}/{link}") else os.unlink)(f"{restored}/{link}")
                os.rmdir(restored)
            else:
                t.equal(done.returncode, 65, f"{name}: {more}: {done.stderr}")
            left = [os.path.join(p, n) for p, folders, names in os.walk(t.path("in")) for n in folders + names if n not in ("target",)]
            t.equal(left, [], f"{name}: {more}: left behind")
            t.equal(backupdata.describe(outside), before, f"{name}: {more}: outside")
            t.equal(sorted(n for n in os.listdir(t.dir) if n in ("escaped", "kept")), [], f"{name}: {more}")


def test_what_is_taken_away(t):
    """setuid, setgid, capabilities: the file comes, its powers do not."""
    pax = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
           "SCHILY.xattr.trusted.x": "y", "SCHILY.xattr.user.note": "stays"}
    path = archive(t, [ROOT, entry("files/site/suid", data=b"#!/bin/sh\n", mode=0o6755), entry("files/site/dir", "dir", mode=0o6775),
                       entry("files/site/able", data=b"x", mode=0o755, pax=pax)])
    done = restore(t, path, "--to-dir", t.path("target"), "--owners" if os.geteuid() == 0 else "--quiet")
    t.equal(done.returncode, 0, done.stderr)
    t.equal(oct(stat.S_IMODE(os.stat(t.path("target/site/suid")).st_mode)), "0o755")
    t.equal(oct(stat.S_IMODE(os.stat(t.path("target/site/dir")).st_mode)), "0o2775")
    t.equal([x for x in os.listxattr(t.path("target/site/able")) if not x.startswith("user.")], [])


def test_bombs(t):
    bomb = archive(t, [ROOT, *(entry(f"files/site/{i}", data=bytes(8 << 20)) for i in range(4))])
    assert os.path.getsize(bomb) < 1 << 20
    for more in ((), ("--no-verify",)):
        done = restore(t, bomb, "--to-dir", t.path("target"), "--max-size", "20MiB", *more)
        t.equal(done.returncode, 65, done.stderr)
        t.contains(done.stderr, "--max-size")
        t.equal(os.listdir(t.path("target")) if os.path.exists(t.path("target")) else [], [])
    # A hole of a terabyte is a size, too.
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "files/site/hole", "GNU.sparse.realsize": str(1 << 40)}
    hole = archive(t, [ROOT, entry("files/site/hole", data=b"0\n".ljust(512, b"\0"), pax=sparse)])
    done = restore(t, hole, "--to-dir", t.path("target"), "--max-size", "1GiB")
    t.equal(done.returncode, 65, done.stderr)
    t.contains(done.stderr, "--max-size")


def test_names_cannot_write_to_the_terminal(t):
    path = archive(t, [ROOT, entry("files/site/\x1b]0;owned\x07\n../x", "symlink", link="/etc/passwd")])
    done = restore(t, path, "--to-dir", t.path("target"))
    t.equal(done.returncode, 65)
    for c in "\x1b\x07":
        t.lacks(done.stderr, c)
    t.equal(done.stderr.count("\n"), 1, done.stderr)


def test_a_dump_runs_nothing_but_sql_and_only_in_its_databases(t):
    server = mariadb.Server(t)
    server.account("site", "secret", "civicrm")
    server.sql("GRANT ALL ON `drill\\_%`.* TO 'site'@'%'; CREATE DATABASE other; CREATE TABLE other.kept (id int); GRANT ALL ON other.* TO 'site'@'%'")
    config = backupdata.config(t, server, user="site", databases=())
    end = "\n-- Dump completed on 2026-01-01  0:00:00\n"
    begin = "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `civicrm`;\nUSE `civicrm`;\nCREATE TABLE a (id int);\n"

    def run(sql, *arguments, databases=("civicrm",), manifest=None):
        return restore(t, archive(t, [entry("database.sql", data=(begin + sql + end).encode())], databases, manifest=manifest), *arguments, config=config)
    # What the command line client would have run as commands of its own.
    for command in (f"system touch {t.path('made')}\n", f"\\! touch {t.path('made')}\n", f"source {t.path('made')}\n", f"tee {t.path('made')}\n"):
        done = run(command + ";", "--db", "--force")
        t.equal(done.returncode, 65, done.stderr)
        t.contains(done.stderr, "line 4 of the dump")
        t.equal(os.path.exists(t.path("made")), False)
    # A drill touches scratch databases only, whatever the dump wants to use.
    done = run("USE `other`;\nDROP TABLE kept;\n", "--drill", databases=("civicrm",))
    t.equal(done.returncode, 0, done.stderr)
    t.equal(server.sql("SHOW TABLES IN other"), [["kept"]])
    # A dump that was changed together with its checksums: what it lacks is found by comparing.
    for wrong, word in (({"tables": 2}, "2 tables in the manifest, 1 in"), ({"triggers": 1}, "1 triggers in"), ({"routines": 1}, "1 routines in")):
        done = run("", "--drill", manifest={"tables": 1, **wrong})
        t.equal(done.returncode, 65, done.stderr)
        t.contains(done.stderr, word)
    t.equal([d for d, in server.sql("SHOW DATABASES") if d.startswith("drill")], [])
    # One that ends in the middle of a statement, and one without its end.
    done = run("INSERT INTO a VALUES (1), (2", "--db", "--force")
    t.equal(done.returncode, 65, done.stderr)
    t.contains(done.stderr, "middle of a statement")
    done = restore(t, archive(t, [entry("database.sql", data=begin.encode())], ("civicrm",)), "--db", "--force", config=config)
    t.equal(done.returncode, 65, done.stderr)
    t.contains(done.stderr, "closing line")


civitest.main(globals())
