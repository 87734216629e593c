#!/usr/bin/env python3
"""civinit-backup and SFTP: Debian's openssh server, run privately."""
import os
import signal
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
    return done.stdout + done.stderr


def test_an_archive_goes_and_comes_back(t):
    where = places.Sftp(t)
    folder = tree(t, 3)
    c = config(t, where, folder, verify="yes", keep_last="1")
    with open(os.path.join(where.folder, "paroisse-20200101T000000Z.tar.gz"), "w") as f:
        f.write("an old one")
    t.contains(run(t, "create", "--config", c), "verified")
    name, = where.names()  # the old one is pruned, no temporary name is left
    t.contains(run(t, "list", "--config", c), name)
    t.contains(run(t, "verify", "--config", c, f"{where.destination}/{name}"), "good")
    run(t, "restore", "--config", c, "--to-dir", t.path("back"), "latest")
    backupdata.same_tree(t, t.path("back/tree"), folder, nanoseconds=False)
    # It is an archive as any other.
    t.equal(t.run("tar", "-tzf", os.path.join(where.folder, name)).returncode, 0)


def test_the_host_and_the_key_must_be_right(t):
    where = places.Sftp(t)
    folder = tree(t)
    unknown = config(t, where, folder, ssh_known_hosts=t.write("empty", ""))
    t.contains(run(t, "create", "--config", unknown, want=77), "host's key")
    other = config(t, where, folder, ssh_known_hosts=where.known(where.port, "other"))
    t.contains(run(t, "create", "--config", other, want=77), "host's key")
    run(t, "create", "--config", config(t, where, folder, ssh_key_file=t.path("other")), want=77)
    without = dict(where.config)
    del without["ssh_known_hosts"]
    c = backupdata.config(t, files=[folder], databases=(), destination=where.destination, **without)
    t.contains(run(t, "create", "--config", c, want=78), "ssh_known_hosts")
    t.equal(where.names(), [])
    t.equal(run(t, "create", "--config", config(t, where, folder, destination=where.destination + "/missing"), want=66).count("\n"), 1)


def test_a_connection_that_breaks_publishes_nothing(t):
    where = places.Sftp(t)
    folder = tree(t, 6)
    cutter = places.Cutter(t, where.port)
    cutter.cut_after(3 << 20)
    c = config(t, where, folder, destination=f"sftp://root@127.0.0.1:{cutter.port}{where.folder}", ssh_known_hosts=where.known(cutter.port))
    done = t.run(BACKUP, "create", "--config", c, seconds=170)
    assert done.returncode == 69, f"{done.returncode} {done.stderr}"
    assert cutter.cut.is_set()
    t.equal([n for n in where.names() if not n.startswith(".")], [])
    run(t, "create", "--config", config(t, where, folder, verify="yes"))
    t.equal(len([n for n in where.names() if not n.startswith(".")]), 1)


def test_a_signal_leaves_nothing(t):
    where = places.Sftp(t)
    folder = tree(t, 2)
    # A dump that never ends holds the run open: its upload has begun when the temporary name is there.
    os.mkfifo(t.path("slow"))
    dump = t.write("dump", f"#!/bin/sh\ncase \"$*\" in *--help*|*--version*) exec mariadb-dump \"$@\";; esac\nhead -c 40000000 /dev/urandom | base64\ncat {t.path('slow')}\n", 0o755)
    server = mariadb.Server(t)
    backupdata.databases(server)
    backupdata.account(server)
    c = backupdata.config(t, server, files=[folder], **{**where.config, "destination": where.destination}, dump_program=dump)
    p = t.start(BACKUP, "create", "--config", c)
    civitest.wait_for("the upload to begin", lambda: any(n.endswith(".part") for n in where.names()) or p.popen.poll() is not None)
    p.signal(signal.SIGTERM)
    t.equal(p.wait(100), -signal.SIGTERM, p.text())
    t.equal(where.names(), [])


def test_a_full_disk_there_publishes_nothing(t):
    where = places.Sftp(t)
    folder = tree(t, 6)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", where.folder], capture_output=True).returncode:
        raise civitest.Skip("no tmpfs can be mounted here")
    t.defer(subprocess.run, ["umount", "-l", where.folder])
    run(t, "create", "--config", config(t, where, folder), want=(69, 73))
    t.equal(where.names(), [])
    subprocess.run(["mount", "-o", "remount,size=32m", where.folder], check=True)
    run(t, "create", "--config", config(t, where, folder, verify="yes"))
    t.equal([n.startswith(".") for n in where.names()], [False])


civitest.main(globals())
