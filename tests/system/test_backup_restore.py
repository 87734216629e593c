#!/usr/bin/env python3
"""civinit-backup restore: into databases as the site's own account, into folders, in part, and as a drill."""
import fcntl
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb

BACKUP = civitest.program("civinit-backup")
OWN = "GRANT ALL ON civicrm.* TO '{0}'@'%'; GRANT ALL ON drupal.* TO '{0}'@'%'; GRANT ALL ON civilog.* TO '{0}'@'%';"
_source = _target = None


class Source:
    """A server and a tree with everything in it, and their archive: made once."""

    def __init__(self):
        self.t = civitest.Test("source")
        self.server = mariadb.Server(self.t)
        backupdata.databases(self.server)
        backupdata.account(self.server)
        self.tree = backupdata.tree(self.t.path("tree"))
        config = backupdata.config(self.t, self.server, files=[f"site={self.tree}/sites", f"other={self.tree}/empty"])
        done = self.t.run(BACKUP, "create", "--config", config, seconds=150)
        assert done.returncode == 0, done.stderr
        name, = [n for n in os.listdir(self.t.path("archives")) if not n.startswith(".")]
        self.archive = self.t.path("archives", name)
        self.rows = backupdata.rows(self.server)
        self.dump = subprocess.run(["tar", "-xzOf", self.archive, "database.sql"], capture_output=True, check=True).stdout


def source():
    global _source
    if _source is None:
        _source = Source()
    return _source


def target():
    """A server whose account `site` has all rights on its three databases, which are not there yet."""
    global _target
    if _target is None:
        _target = (civitest.Test("target"), mariadb.Server())
        server = _target[1]
        server.account("site", "secret")
        server.sql(OWN.format("site") + "GRANT ALL ON `drill\\_%`.* TO 'site'@'%'; GRANT ALL ON `spare\\_%`.* TO 'site'@'%'")
    server = _target[1]
    for name, in server.sql("SHOW DATABASES"):
        if name not in ("mysql", "information_schema", "performance_schema", "sys"):
            server.sql(f"DROP DATABASE `{name}`")
    return server


def shared_end():
    if _source:
        _source.t.stack.close()
    if _target:
        _target[1].end()
        _target[0].stack.close()


def restore(t, server, *arguments, want=0, archive=None, user="site", **options):
    config = backupdata.config(t, server, user=user, databases=()) if server else backupdata.config(t, databases=())
    done = t.run(BACKUP, "restore", "--config", config, *arguments, archive or source().archive, seconds=150, **options)
    t.equal(done.returncode, want, f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def same_rows(t, got, want=None):
    """Without who defined what."""
    def clean(value):
        return re.sub(r"DEFINER=`[^`]*`@`[^`]*`", "", str(value))
    want = want or source().rows
    t.equal(sorted(got), sorted(want))
    for k, v in want.items():
        t.equal(clean(got[k]), clean(v), k)


def same_files(t, folder):
    tree = source().tree
    # setgid of a file is dropped, as it must be; nothing else differs.
    os.chmod(f"{folder}/site/default/files/setgid", 0o2755)
    backupdata.same_tree(t, f"{folder}/site", f"{tree}/sites", nanoseconds=False)
    t.equal(os.stat(f"{folder}/other").st_mode & 0o7777, 0o2770)
    for x in os.listxattr(f"{tree}/empty"):  # the root folder's own ACL
        t.equal(os.getxattr(f"{folder}/other", x), os.getxattr(f"{tree}/empty", x), x)


def test_all_comes_back_for_the_sites_own_account(t):
    server = target()
    said = restore(t, server, "--db", "--to-dir", t.path("back"), "--allow-external-links")
    t.contains(said, "3 databases loaded: 15 rows")
    same_rows(t, backupdata.rows(server))
    same_files(t, t.path("back"))
    # Triggers run: their definer is an account that exists.
    server.sql("UPDATE civicrm.civicrm_contact SET display_name = 'Bob' WHERE id = 1")
    t.equal(server.sql("SELECT * FROM civilog.log_contact"), [["1", "Bob", "Update"]])
    t.equal(sorted(os.listdir(t.path("back"))), ["other", "site"])


def test_nothing_that_is_not_empty_is_touched_without_force(t):
    server = target()
    server.sql("CREATE DATABASE drupal; CREATE TABLE drupal.kept (id int); INSERT INTO drupal.kept VALUES (7)")
    t.contains(restore(t, server, "--db", want=73), "drupal is not empty")
    t.equal(server.sql("SELECT * FROM drupal.kept"), [["7"]])
    t.equal([d for d, in server.sql("SHOW DATABASES") if d in ("civicrm", "civilog")], [])

    t.write("back/site/kept.txt", "mine")
    links = ("--to-dir", t.path("back"), "--allow-external-links")
    t.contains(restore(t, None, *links, want=73), "not empty")
    t.equal(sorted(os.listdir(t.path("back"))), ["site"])
    t.equal(os.listdir(t.path("back/site")), ["kept.txt"])

    restore(t, server, "--db", *links, "--force")
    same_rows(t, backupdata.rows(server))
    same_files(t, t.path("back"))
    t.equal(os.path.exists(t.path("back/site/kept.txt")), False)


def test_a_database_under_another_name_with_what_points_to_it(t):
    server = target()
    restore(t, server, "--to-db", "civicrm=spare_crm", "--to-db", "civilog=spare_log", "--databases", "civicrm civilog")
    t.equal([d for d, in server.sql("SHOW DATABASES") if not d.endswith("schema") and d not in ("mysql", "sys")], ["spare_crm", "spare_log"])
    t.equal(server.sql("SELECT COUNT(*) FROM spare_crm.civicrm_contact"), [["3"]])
    server.sql("UPDATE spare_crm.civicrm_contact SET display_name = 'Eve' WHERE id = 2")
    t.equal(server.sql("SELECT * FROM spare_log.log_contact"), [["2", "Eve", "Update"]])
    t.equal(server.sql("SELECT COUNT(*) FROM spare_crm.civicrm_active"), [["3"]])
    # Only one database is chosen: its new name needs no old one.
    restore(t, server, "--to-db", "spare_one", "--databases", "drupal")
    t.equal(server.sql("SELECT title FROM spare_one.node"), [["first"]])
    for arguments, text in ((("--to-db", "spare_x"), "several databases"), (("--to-db", "nothing=spare_x"), "has no database"),
                            (("--db", "--databases", "civicrm nope"), "civicrm, "), (("--to-dir", t.path("x"), "--roots", "nope"), "site, other"),
                            (("--to-db", "a=x", "--to-db", "b=x"), "two databases"), ((), "--db"), (("--db", "--definer", "me"), "USER@HOST"),
                            (("--to-dir", "x", "--paths", "a", "--force"), "empty folder"), (("--drill", "--db"), "own places")):
        t.contains(restore(t, server, *arguments, want=64), text)


def test_parts_of_the_files(t):
    restore(t, None, "--to-dir", "some", "--paths", "site/default/files/*.txt", "--paths", "site/default/files/templates_c")
    t.equal(sorted(os.listdir(t.path("some/site/default/files"))),
            sorted(["empty.txt", "é" * 120 + ".txt", "templates_c"]))
    t.equal(os.listdir(t.path("some/site/default/files/templates_c")), ["x.tpl.php"])
    restore(t, None, "--to-root", f"other={t.path('elsewhere')}")
    t.equal(os.stat(t.path("elsewhere")).st_mode & 0o7777, 0o2770)
    t.contains(restore(t, None, "--to-root", f"site={t.path('no/such/parent')}", "--allow-external-links", want=73), "no/such/parent")
    config = backupdata.config(t, files=[f"other={t.path('home')}"], databases=())
    done = t.run(BACKUP, "restore", "--config", config, "--in-place", "--roots", "other", source().archive)
    t.equal((done.returncode, os.path.isdir(t.path("home"))), (0, True), done.stderr)
    done = t.run(BACKUP, "restore", "--config", config, "--in-place", "--allow-external-links", "--force", source().archive)
    t.equal(done.returncode, 78, done.stderr)
    t.contains(done.stderr, "root site")


def test_the_first_error_stops_with_its_place(t):
    server = target()
    server.account("weak", "secret")
    server.sql("GRANT SELECT, INSERT, CREATE, DROP, ALTER, INDEX, REFERENCES, LOCK TABLES, CREATE VIEW, SHOW VIEW ON `civicrm`.* TO 'weak'@'%'")
    said = restore(t, server, "--db", "--databases", "civicrm", want=77, user="weak")
    m = t.match(said, r"line (\d+) of the dump \(byte (\d+)\): (\S+)")
    lines = source().dump.split(b"\n")
    line, at = int(m[1]), int(m[2])
    assert source().dump[at:].decode(errors="replace").startswith(m[3]), source().dump[at:at + 80]
    t.equal(source().dump[:at].count(b"\n") + 1, line)
    assert b"TRIGGER" in lines[line - 1], lines[line - 1]
    t.contains(said, "(1142)")
    t.contains(said, "GRANT ALL")
    t.contains(said, "database civicrm is loaded in part")


def test_definers_stay_or_change_on_request(t):
    server = target()
    t.contains(restore(t, server, "--db", "--definer", "keep", want=77), "--definer drop")
    root = backupdata.config(t, server, name="root.ini", user="root", databases=(), tcp=False)
    t.write("password.root", "")
    server.account("admin", "secret")
    server.sql("GRANT ALL ON *.* TO 'admin'@'%'")
    restore(t, server, "--db", "--definer", "keep", "--force", user="admin")
    t.equal(backupdata.rows(server) == source().rows, True)
    restore(t, server, "--db", "--definer", "site@%", "--force", user="admin")
    t.equal(server.sql("SELECT DISTINCT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'civicrm'"), [["site@%"]])
    assert root


def test_a_server_with_a_binary_log_says_what_it_needs(t):
    server = mariadb.Server(t, options=["--log-bin=binlog", "--sql-mode=TRADITIONAL"])  # which forbids the dates 0000-00-00
    server.account("site", "secret")
    server.sql(OWN.format("site"))
    said = restore(t, server, "--db", want=77)
    t.contains(said, "(1419)")
    t.contains(said, "SET GLOBAL log_bin_trust_function_creators = 1")
    server.sql("SET GLOBAL log_bin_trust_function_creators = 1")
    restore(t, server, "--db", "--force")
    same_rows(t, backupdata.rows(server))


def test_a_drill_proves_and_leaves_nothing(t):
    server = target()
    os.makedirs(t.path("scratch"))
    server.sql("CREATE DATABASE drill_0123abcd_civicrm; CREATE DATABASE drill_mine")  # a dead drill's, and somebody's own
    said = restore(t, server, "--drill", "--scratch", t.path("scratch"))
    t.match(said, r"proven: 8 tables with 15 rows and \d+ files")
    t.contains(said, "drill_0123abcd_civicrm")
    t.equal([d for d, in server.sql("SHOW DATABASES") if d.startswith(("drill", "civi", "drupal"))], ["drill_mine"])
    t.equal(os.listdir(t.path("scratch")), [])
    server.account("plain", "secret")
    server.sql(OWN.format("plain"))
    t.contains(restore(t, server, "--drill", "--scratch", t.path("scratch"), want=77, user="plain"), "GRANT ALL ON `drill\\_%`")
    t.equal(os.listdir(t.path("scratch")), [])


def test_a_broken_archive_touches_nothing(t):
    server = target()
    server.sql("CREATE DATABASE civicrm; CREATE TABLE civicrm.kept (id int)")
    t.write("back/site/kept.txt", "mine")
    with open(source().archive, "rb") as f:
        good = f.read()
    bad = bytearray(good)
    bad[len(bad) * 2 // 3] ^= 8
    for data in (bytes(bad), good[:-20], good[:len(good) // 2]):
        restore(t, server, "--db", "--to-dir", t.path("back"), "--allow-external-links", "--force", want=65, archive=t.write("bad.tar.gz", data))
    t.equal(server.sql("SHOW TABLES IN civicrm"), [["kept"]])
    t.equal(os.listdir(t.path("back")), ["site"])
    t.equal(os.listdir(t.path("back/site")), ["kept.txt"])


def test_a_restore_that_is_ended_leaves_the_old_files(t):
    """The archive comes through a pipe, so that the restore is known to be in the middle of it."""
    with open(source().archive, "rb") as f:
        data = f.read()
    t.write("back/site/kept.txt", "mine")
    config = backupdata.config(t, databases=())
    for number in (signal.SIGTERM, signal.SIGKILL):
        reader, writer = os.pipe()
        p = t.start(BACKUP, "restore", "--config", config, "--to-dir", t.path("back"), "--allow-external-links", "--force", "-", stdin=reader)
        os.close(reader)
        with os.fdopen(writer, "wb", 0) as pipe:
            pipe.write(data[:len(data) - 2000])
            civitest.wait_for("files beside the target", lambda: os.path.isdir(t.path("back/site.new/default")))
            p.signal(number)
            if number == signal.SIGKILL:
                t.equal(p.wait(), -number)
        t.equal(p.wait(), -number, p.text())
        t.equal(os.listdir(t.path("back/site")), ["kept.txt"])
        t.equal(os.path.exists(t.path("back/site.new")), number == signal.SIGKILL)
    restore(t, None, "--to-dir", t.path("back"), "--allow-external-links", "--force")  # sweeps what the killed one left
    same_files(t, t.path("back"))
    t.equal(sorted(os.listdir(t.path("back"))), ["other", "site"])


def test_two_restores_at_once(t):
    os.makedirs(t.path("back/site.new"))
    folder = os.open(t.path("back/site.new"), os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    t.contains(restore(t, None, "--to-dir", t.path("back"), "--allow-external-links", want=75), "another restore")
    os.close(folder)
    restore(t, None, "--to-dir", t.path("back"), "--allow-external-links")


def mount(t, name, size):
    os.makedirs(t.path(name))
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", t.path(name)], capture_output=True).returncode:
        raise civitest.Skip("cannot mount a tmpfs here")
    t.defer(subprocess.run, ["umount", "-l", t.path(name)])
    return t.path(name)


def test_a_mount_point_is_filled_from_within(t):
    volume = mount(t, "volume", "64m")
    t.write("volume/old/x", "old")
    into = ("--to-root", f"site={volume}", "--allow-external-links")
    restore(t, None, *into, want=73)
    t.equal(os.listdir(volume), ["old"])
    restore(t, None, *into, "--force")
    os.chmod(f"{volume}/default/files/setgid", 0o2755)
    backupdata.same_tree(t, volume, f"{source().tree}/sites", nanoseconds=False)


def test_a_full_disk_leaves_nothing(t):
    volume = mount(t, "volume", "600k")
    said = restore(t, None, "--to-root", f"site={volume}/new", "--allow-external-links", want=73)
    t.contains(said, "do not fit")
    # A sparse file's size says nothing about the room it needs: with one pass it is noticed when it comes.
    said = restore(t, None, "--to-root", f"site={volume}/new", "--allow-external-links", "--no-verify", want=73)
    t.contains(said, "No space left")
    t.equal(os.listdir(volume), [])


def test_a_limit_of_size(t):
    t.contains(restore(t, None, "--to-dir", t.path("back"), "--allow-external-links", "--max-size", "1MiB", want=65), "--max-size")
    t.contains(restore(t, None, "--to-dir", t.path("back"), "--allow-external-links", "--max-size", "1MiB", "--no-verify", want=65), "--max-size")
    t.equal(os.path.exists(t.path("back/site")), False)
    restore(t, None, "--to-dir", t.path("back"), "--allow-external-links", "--max-size", "64MiB")


civitest.main(globals())
