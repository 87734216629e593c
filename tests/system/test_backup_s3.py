#!/usr/bin/env python3
"""civinit-backup and S3: a server that checks signatures, parts, faults between the two."""
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb
import places
import tls

BACKUP = civitest.program("civinit-backup")
_place = None


def place(t):
    """One server for the file, a bucket for each test."""
    global _place
    if _place is None:
        _place = places.S3(_Whole())
    status, body = _place.request("PUT", f"/{t.name.replace('_', '-')}")
    assert status == 200, body
    _place.bucket = t.name.replace("_", "-")
    _place.destination = f"s3://{_place.bucket}/site"
    return _place


class _Whole(civitest.Test):
    """A folder and processes that live until the file ends."""
    made = []

    def __init__(self):
        super().__init__("s3")
        self.made.append(self)


def shared_end():
    for whole in _Whole.made:
        whole.stack.close()


def noise(t, megabytes=0):
    """A tree that does not compress: an archive of several parts of 5 MiB when asked for."""
    folder = t.path("tree")
    os.makedirs(f"{folder}/pictures")
    for i in range(megabytes):
        with open(f"{folder}/pictures/{i}.jpg", "wb") as f:
            f.write(os.urandom(1 << 20))
    t.write("tree/settings.php", "<?php\n")
    return folder


def config(t, where, files, port=None, **more):
    more = {**where.config, "destination": where.destination, **more}
    if port:
        more["endpoint"] = f"http://127.0.0.1:{port}"
    return backupdata.config(t, files=[files], databases=(), **more)


def run(t, *arguments, want=0, **options):
    done = t.run(BACKUP, *arguments, seconds=170, **options)
    t.equal(done.returncode, want, f"{arguments}: {done.stdout}{done.stderr}")
    t.lacks(done.stdout + done.stderr, places.S3.secret)
    return done.stdout + done.stderr


def same(t, archive, c, folder, *more):
    run(t, "restore", "--config", c, "--to-dir", t.path("back"), *more, archive)
    backupdata.same_tree(t, t.path("back/tree"), folder, nanoseconds=False)


def test_an_archive_of_many_parts_goes_and_comes_back(t):
    where = place(t)
    folder = noise(t, 13)
    c = config(t, where, folder, verify="yes")
    t.contains(run(t, "create", "--config", c), "verified")
    names = where.names()
    t.equal(len(names), 1, f"{names}")
    t.equal(where.uploads(), [])
    t.match(names[0], r"^paroisse-\d{8}T\d{6}Z\.tar\.gz$")
    t.contains(run(t, "list", "--config", c), names[0])
    t.contains(run(t, "list", "--config", c, names[0]), "files/tree/settings.php")
    t.contains(run(t, "verify", "--config", c, f"{where.destination}/{names[0]}"), "good")
    same(t, "latest", c, folder)


def test_an_encrypted_archive_keeps_its_first_part_for_last(t):
    where = place(t)
    folder = noise(t, 6)
    made = t.run("age-keygen", "-o", t.path("key"))
    recipient = t.match(made.stderr, r"age1\w+")[0]
    c = config(t, where, folder, encrypt_to=recipient)
    run(t, "create", "--config", c)
    name, = where.names()
    t.match(name, r"\.tar\.gz\.age$")
    t.contains(run(t, "verify", "--config", c, name, want=77), "identity")
    t.contains(run(t, "verify", "--config", c, "--identity", t.path("key"), name), "good")
    same(t, name, c, folder, "--identity", t.path("key"))


def test_a_database_goes_to_s3_encrypted_and_is_drilled_from_there(t):
    where = place(t)
    server = mariadb.Server(t)
    backupdata.databases(server)
    backupdata.account(server)
    made = t.run("age-keygen", "-o", t.path("key"))
    c = backupdata.config(t, server, **{**where.config, "destination": where.destination}, identity_file=t.path("key"),
                          encrypt_to=t.match(made.stderr, r"age1\w+")[0])
    run(t, "create", "--config", c)
    name, = where.names()
    listed = run(t, "list", "--config", c, name)
    t.match(listed, r"database\.sql$")
    t.lacks(listed, "database.sql.0")
    before = backupdata.rows(server)
    server.sql("GRANT ALL ON `drill\\_%`.* TO 'dump'@'%'")
    t.contains(run(t, "restore", "--drill", "--config", c, name), "proven: 8 tables with 15 rows")
    t.equal(backupdata.rows(server), before)
    t.equal([d for d, in server.sql("SHOW DATABASES") if d.startswith("drill")], [])


def test_memory_is_a_constant(t):
    """With TLS, and both parts that are held: the first, which goes last, and the one on its way."""
    if civitest.SAN:
        raise civitest.Skip("the sanitizers need memory of their own")
    where = places.S3(t, tls=tls.Authority(t.path("ca")))
    server = mariadb.Server(t)
    backupdata.databases(server)
    backupdata.account(server)
    folder = noise(t, 40)
    c = backupdata.config(t, server, files=[folder], **{**where.config, "destination": where.destination})
    found = {kind: backupdata.peak([BACKUP, "create", "--config", c, "--compression", kind, "--threads", "2"]) for kind in ("default", "fast")}
    print("peak MB", found)
    for kind, value in found.items():
        assert value <= 32, f"{kind}: {found}"


def test_prune_removes_old_archives(t):
    where = place(t)
    c = config(t, where, noise(t), keep_last="1")
    for name in ("paroisse-20200101T000000Z.tar.gz", "paroisse-20210101T000000Z.tar.gz", "other-20200101T000000Z.tar.gz"):
        where.request("PUT", f"/{where.bucket}/site/{name}", body=b"not really")
    run(t, "create", "--config", c)
    left = where.names()
    t.equal(len(left), 2, f"{left}")
    t.equal([n for n in left if n.startswith("other")], ["other-20200101T000000Z.tar.gz"])


def test_a_wrong_secret_publishes_nothing(t):
    where = place(t)
    c = config(t, where, noise(t), secret_key_file=t.write("wrong", "wrong secret\n", 0o600))
    t.contains(run(t, "create", "--config", c, want=77), "wrong key, secret or rights")
    t.equal((where.names(), where.uploads()), ([], []))
    c = config(t, where, t.path("tree"), destination="s3://no-such-bucket/x")
    run(t, "create", "--config", c, want=66)
    c = config(t, where, t.path("tree"), access_key_file=t.path("no-such-file"))
    t.contains(run(t, "create", "--config", c, want=66), "access_key_file")


def test_errors_that_pass_are_tried_again(t):
    where = place(t)
    folder = noise(t, 11)
    failed = set()

    def rule(method, path):
        """Every request fails once: by a 503, or without an answer."""
        if (method, path) in failed:
            return None
        failed.add((method, path))
        return 503 if len(failed) % 2 else "cut"
    proxy = places.Proxy(t, where.port, rule)
    c = config(t, where, folder, port=proxy.port)
    run(t, "create", "--config", c)
    assert len(failed) >= 6, failed
    t.equal(len(where.names()), 1)
    t.equal(where.uploads(), [])
    same(t, "latest", config(t, where, folder), folder)


def test_a_connection_that_breaks_while_reading_goes_on(t):
    where = place(t)
    folder = noise(t, 11)
    broken = []

    def rule(method, path):
        """Each download of the archive ends after a third of what it should bring, three times."""
        if method == "GET" and ".tar" in path and len(broken) < 3:
            broken.append(path)
            return "third"
    proxy = places.Proxy(t, where.port, rule)
    run(t, "create", "--config", config(t, where, folder, port=proxy.port))
    t.equal(len(broken), 3, "downloads that broke")
    t.equal(len(where.names()), 1)
    same(t, "latest", config(t, where, folder), folder)


def test_answers_that_are_lost_are_no_failure(t):
    """The server has done what was asked, but nobody said so: each request is repeated, the completion too."""
    where = place(t)
    folder = noise(t, 11)
    lost = set()

    def rule(method, path):
        if method in ("PUT", "POST") and "uploadId" in path and (method, path) not in lost:
            lost.add((method, path))
            return "lose"
    proxy = places.Proxy(t, where.port, rule)
    run(t, "create", "--config", config(t, where, folder, port=proxy.port))
    assert len([m for m, _ in lost if m == "PUT"]) >= 3 and len([m for m, _ in lost if m == "POST"]) == 1, lost
    t.equal((len(where.names()), where.uploads()), (1, []))
    same(t, "latest", config(t, where, folder), folder)


def test_errors_that_stay_publish_nothing_and_abort(t):
    where = place(t)
    folder = noise(t, 11)
    proxy = places.Proxy(t, where.port)
    c = config(t, where, folder, port=proxy.port)
    for what, rule in (("a part", lambda m, p: 500 if "partNumber=2&" in p else None),
                       ("the last part", lambda m, p: 503 if "partNumber=1&" in p else None),
                       ("the completion", lambda m, p: 500 if m == "POST" and "uploadId" in p else None)):
        proxy.rule = rule
        done = run(t, "create", "--config", c, want=69)
        t.equal((what, where.names(), where.uploads()), (what, [], []), done)
    proxy.rule = lambda m, p: 403 if m == "PUT" else None
    run(t, "create", "--config", c, want=77)
    t.equal((where.names(), where.uploads()), ([], []))


test_errors_that_stay_publish_nothing_and_abort.limit = 400


def test_an_archive_that_comes_back_changed_is_removed(t):
    where = place(t)
    folder = noise(t, 6)
    made = t.run("age-keygen", "-o", t.path("key"))
    recipient = t.match(made.stderr, r"age1\w+")[0]
    proxy = places.Proxy(t, where.port)
    for more in ({}, {"encrypt_to": recipient}, {"encrypt_to": recipient, "identity_file": t.path("key")}):
        c = config(t, where, folder, port=proxy.port, verify="yes", **more)
        proxy.rule = lambda method, path: "damage" if method == "GET" and ".tar.gz" in path else None
        t.contains(run(t, "create", "--config", c, want=65), "removed")
        t.equal(where.names(), [])
        proxy.rule = lambda method, path: None
        t.contains(run(t, "create", "--config", c), "verified")
        where.request("DELETE", f"/{where.bucket}/site/{where.names()[0]}")


def test_a_server_that_dies_has_no_archive_afterwards(t):
    where = places.S3(t)
    folder = noise(t, 16)
    proxy = places.Proxy(t, where.port)

    def rule(method, path):
        if "partNumber=3&" in path:
            where.process.end()
        return "cut" if where.process.popen.poll() is not None else None
    proxy.rule = rule
    c = config(t, where, folder, port=proxy.port)
    run(t, "create", "--config", c, want=69)
    where.start()
    t.equal(where.names(), [])
    proxy.rule = lambda method, path: None
    run(t, "create", "--config", c)
    t.equal(len(where.names()), 1)


def test_a_signal_aborts_the_upload(t):
    where = place(t)
    folder = noise(t, 16)
    reached, go_on = threading.Event(), threading.Event()
    t.defer(go_on.set)

    def rule(method, path):
        if "partNumber=2&" in path and not reached.is_set():
            reached.set()
            go_on.wait(100)
    proxy = places.Proxy(t, where.port, rule)
    c = config(t, where, folder, port=proxy.port)
    p = t.start(BACKUP, "create", "--config", c)
    assert reached.wait(100), p.text()
    p.signal(signal.SIGTERM)
    t.equal(p.wait(100), -signal.SIGTERM, p.text())  # although the server says nothing yet
    go_on.set()
    t.equal((where.names(), where.uploads()), ([], []))


def test_a_certificate_must_be_of_the_given_authority(t):
    where = places.S3(t, tls=tls.Authority(t.path("ca")))
    folder = noise(t)
    run(t, "create", "--config", config(t, where, folder, verify="yes"))
    other = tls.Authority(t.path("other"), "another CA")
    done = run(t, "create", "--config", config(t, where, folder, ca=other.ca), want=77)
    t.contains(done, "certificate")
    t.equal(len(where.names()), 1)


civitest.main(globals())
