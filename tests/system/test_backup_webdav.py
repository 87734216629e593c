#!/usr/bin/env python3
"""civinit-backup and WebDAV: Apache's mod_dav, run privately."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb
import places

BACKUP = civitest.program("civinit-backup")


def tree(t, megabytes=0):
    folder = t.path("tree")
    os.makedirs(folder)
    for i in range(megabytes):
        t.write(f"tree/{i}.jpg", os.urandom(1 << 20))
    t.write("tree/settings.php", "<?php\n")
    return folder


def config(t, where, files, **more):
    return backupdata.config(t, files=[files], databases=(), **{**where.config, "destination": where.destination, **more})


def run(t, *arguments, want=0):
    done = t.run(BACKUP, *arguments, seconds=170)
    assert done.returncode in (want if isinstance(want, tuple) else (want,)), f"{done.returncode}, want {want}: {arguments}: {done.stdout}{done.stderr}"
    t.lacks(done.stdout + done.stderr, "dav'secret")
    return done.stdout + done.stderr


def test_a_database_goes_in_pieces_and_comes_back(t):
    where = places.Dav(t)
    server = mariadb.Server(t)
    backupdata.databases(server)
    backupdata.account(server)
    folder = tree(t, 3)
    c = backupdata.config(t, server, files=[folder], **{**where.config, "destination": where.destination}, verify="yes", keep_last="1")
    with open(os.path.join(where.folder, "paroisse-20200101T000000Z.tar.gz"), "w") as f:
        f.write("an old one")
    t.contains(run(t, "create", "--config", c), "verified")
    name, = where.names()
    t.contains(run(t, "list", "--config", c), name)
    t.contains(run(t, "verify", "--config", c, f"{where.destination}/{name}"), "good")
    t.match(run(t, "list", "--config", c, name), r"database\.sql\.00000$")
    run(t, "restore", "--config", c, "--to-dir", t.path("back"), "latest")
    backupdata.same_tree(t, t.path("back/tree"), folder, nanoseconds=False)
    server.sql("GRANT ALL ON `drill\\_%`.* TO 'dump'@'%'")
    t.contains(run(t, "restore", "--drill", "--config", c, "latest"), "proven: 8 tables with 15 rows")


def test_a_wrong_password_or_folder_publishes_nothing(t):
    where = places.Dav(t)
    folder = tree(t)
    t.contains(run(t, "create", "--config", config(t, where, folder, password_file=t.write("wrong", "x\n")), want=77), "password")
    t.contains(run(t, "create", "--config", config(t, where, folder, destination=where.destination + "/missing"), want=66), "not there")
    t.equal(where.names(), [])
    t.contains(run(t, "create", "--config", config(t, where, folder, destination="http://example.org/backups"), want=78), "https")
    address = where.destination.replace("//", "//me:secret@")
    t.lacks(run(t, "create", "--config", config(t, where, folder, destination=address), want=78), "secret@")


def test_errors_in_the_middle_publish_nothing(t):
    where = places.Dav(t)
    folder = tree(t, 6)
    cutter = places.Cutter(t, where.port)
    cutter.cut_after(3 << 20)
    run(t, "create", "--config", config(t, where, folder, destination=f"http://127.0.0.1:{cutter.port}"), want=69)
    assert cutter.cut.is_set()
    t.equal([n for n in where.names() if not n.startswith(".")], [])
    run(t, "create", "--config", config(t, where, folder))
    t.equal(len([n for n in where.names() if not n.startswith(".")]), 1)


def test_an_answer_that_is_lost_is_no_failure(t):
    """The archive has its name, but nobody said so: the repeated MOVE finds nothing to move."""
    where = places.Dav(t)
    lost = []

    def rule(method, path):
        if method == "MOVE" and not lost:
            lost.append(path)
            return "lose"
    proxy = places.Proxy(t, where.port, rule)
    run(t, "create", "--config", config(t, where, tree(t), destination=f"http://127.0.0.1:{proxy.port}", verify="yes"))
    t.equal(len(lost), 1)
    t.equal([n.startswith(".") for n in where.names()], [False])


def test_a_full_disk_there_publishes_nothing(t):
    where = places.Dav(t)
    folder = tree(t, 6)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,uid=www-data,gid=www-data", "tmpfs", where.folder], capture_output=True).returncode:
        raise civitest.Skip("no tmpfs can be mounted here")
    t.defer(subprocess.run, ["umount", "-l", where.folder])
    run(t, "create", "--config", config(t, where, folder), want=(69, 73))
    t.equal(where.names(), [])
    subprocess.run(["mount", "-o", "remount,size=32m,uid=www-data,gid=www-data", where.folder], check=True)
    run(t, "create", "--config", config(t, where, folder, verify="yes"))
    t.equal([n.startswith(".") for n in where.names()], [False])


civitest.main(globals())
