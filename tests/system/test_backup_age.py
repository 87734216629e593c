#!/usr/bin/env python3
"""Encrypted archives: Debian's age opens what civinit-backup wrote, and the other way round."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb

BACKUP = civitest.program("civinit-backup")


def key(t, name):
    """(identity file, recipient)"""
    made = t.run("age-keygen", "-o", t.path(name))
    t.equal(made.returncode, 0, made.stderr)
    return t.path(name), t.match(made.stderr, r"age1\w+")[0]


def run(t, *arguments, want=0):
    done = t.run(BACKUP, *arguments, seconds=170)
    t.equal(done.returncode, want, f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def opened(identity, path):
    """What `age -d` makes of a file."""
    done = subprocess.run(["age", "-d", "-i", identity, path], capture_output=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


def one(t):
    name, = [n for n in os.listdir(t.path("archives")) if not n.startswith(".")]
    return t.path("archives", name)


def test_a_dump_and_a_tree_for_two_readers(t):
    server = mariadb.Server(t)
    backupdata.databases(server)
    backupdata.account(server)
    tree = backupdata.tree(t.path("tree"))
    (mine, a), (theirs, b), (strange, _) = key(t, "mine"), key(t, "theirs"), key(t, "strange")
    c = backupdata.config(t, server, files=[tree], encrypt_to=f"{a} {b}")
    run(t, "create", "--config", c)
    archive = one(t)
    t.match(archive, r"\.tar\.gz\.age$")
    plain = opened(mine, archive)
    t.equal(plain == opened(theirs, archive), True)
    t.write("plain.tar.gz", plain)
    # Its beginning was patched: the dump has its size, and every reader agrees.
    t.match(t.run("tar", "-tvzf", t.path("plain.tar.gz")).stdout, r"^-rw.*\d{4,} .* database\.sql$")
    t.contains(run(t, "verify", "--config", c, t.path("plain.tar.gz")), "good")
    for identity in (mine, theirs):
        t.contains(run(t, "verify", "--config", c, "--identity", identity, archive), "good")
    t.contains(run(t, "verify", "--config", c, "--identity", strange, archive, want=77), "no identity")
    t.contains(run(t, "verify", "--config", c, archive, want=77), "--identity")
    t.contains(run(t, "verify", "--config", c, "--identity", t.path("plain.tar.gz"), archive, want=78), "no age identity")
    run(t, "restore", "--config", c, "--identity", mine, "--to-dir", t.path("back"), "--allow-external-links", "--paths", "tree/sites/default/files/*",
        archive)
    t.equal(sorted(os.listdir(t.path("back/tree/sites/default/files"))), sorted(os.listdir(t.path("tree/sites/default/files"))))


def test_what_age_encrypts_is_read(t):
    folder = t.path("tree")
    os.makedirs(folder)
    for size in (0, 70000, 200000):
        t.write(f"tree/{size}", os.urandom(size))
    identity, recipient = key(t, "key")
    c = backupdata.config(t, files=[folder], databases=())
    run(t, "create", "--config", c)
    subprocess.run(["age", "-r", recipient, "-o", t.path("theirs.tar.gz.age"), one(t)], check=True, timeout=100)
    t.contains(run(t, "verify", "--config", c, "--identity", identity, t.path("theirs.tar.gz.age")), "good")
    run(t, "restore", "--config", c, "--identity", identity, "--to-dir", t.path("back"), t.path("theirs.tar.gz.age"))
    backupdata.same_tree(t, t.path("back/tree"), folder, nanoseconds=False)


def test_standard_output_and_tiny_archives(t):
    folder = t.path("tree")
    os.makedirs(folder)
    t.write("tree/a", "a")
    identity, recipient = key(t, "key")
    c = backupdata.config(t, files=[folder], databases=(), encrypt_to=recipient)
    with open(t.path("out"), "wb") as out:
        done = subprocess.run([BACKUP, "create", "--config", c, "--to", "-"], stdout=out, stderr=subprocess.PIPE, timeout=100)
    t.equal(done.returncode, 0, done.stderr)
    listed = subprocess.run(["tar", "-tz"], input=opened(identity, t.path("out")), capture_output=True, check=True).stdout
    t.equal(b"files/tree/a\n" in listed, True, listed)
    # Through a pipe, back from a pipe.
    made = subprocess.run(f"'{BACKUP}' create --config '{c}' --to - | cat", shell=True, capture_output=True, timeout=100)
    done = subprocess.run([BACKUP, "restore", "--config", c, "--identity", identity, "--to-dir", t.path("back"), "-"], input=made.stdout,
                          capture_output=True, timeout=100)
    t.equal(done.returncode, 0, done.stderr)
    backupdata.same_tree(t, t.path("back/tree"), folder, nanoseconds=False)


def test_damage_is_found_wherever_it_is(t):
    folder = t.path("tree")
    os.makedirs(folder)
    t.write("tree/noise", os.urandom(300000))
    identity, recipient = key(t, "key")
    c = backupdata.config(t, files=[folder], databases=(), encrypt_to=recipient)
    run(t, "create", "--config", c)
    with open(one(t), "rb") as f:
        good = f.read()
    for at in (10, 60, 150, 250, 400, 65536, 70000, len(good) // 2, len(good) - 17, len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 1
        said = t.run(BACKUP, "verify", "--config", c, "--identity", identity, t.write("bad.tar.gz.age", bytes(bad)))
        assert said.returncode in (65, 77), f"byte {at}: {said.returncode} {said.stderr}"
    for length in (100, 300, 65536, len(good) - 65552, len(good) - 1):
        run(t, "verify", "--config", c, "--identity", identity, t.write("cut.tar.gz.age", good[:length]), want=65)


def test_wrong_recipients_are_refused_before_anything_is_made(t):
    folder = t.path("tree")
    os.makedirs(folder)
    identity, recipient = key(t, "key")
    with open(identity) as f:
        secret = t.match(f.read(), r"AGE-SECRET-KEY-\w+")[0]
    for wrong, word in ((recipient[:-1] + ("q" if recipient[-1] != "q" else "p"), "age recipient"), (secret, "secret key"),
                        ("ssh-ed25519", "ssh key")):
        done = run(t, "create", "--config", backupdata.config(t, files=[folder], databases=(), encrypt_to=wrong), want=78)
        t.contains(done, word)
        t.lacks(done, secret)
    t.equal(os.listdir(t.path("archives")), [])


civitest.main(globals())
