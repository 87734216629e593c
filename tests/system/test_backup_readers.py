#!/usr/bin/env python3
"""Every common reader takes the archives of civinit-backup; and what prune keeps."""
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb
from mariadb import shared_end  # noqa: F401

BACKUP = civitest.program("civinit-backup")


def archive(t, kind, files=True):
    s = mariadb.Server.shared()
    if not s.sql("SHOW DATABASES LIKE 'civicrm'"):
        backupdata.databases(s)
        backupdata.account(s)
    tree = backupdata.tree(t.path("tree"), noise=2_500_000)
    # GNU tar has a word about names that are not UTF-8, whoever wrote them.
    os.remove(os.fsencode(tree) + b"/sites/default/files/not utf-8 \xff\xfe")
    os.remove(f"{tree}/sites/broken-link")
    config = backupdata.config(t, s, files=[tree])
    done = t.run(BACKUP, "create", "--config", config, "--compression", kind, seconds=150)
    t.equal(done.returncode, 0, done.stderr)
    name = next(n for n in os.listdir(t.path("archives")) if n.startswith("paroisse"))
    return t.path("archives", name)


def silent(t, *command, **options):
    """Runs; the reader must say nothing but its output."""
    done = subprocess.run(command, capture_output=True, timeout=150, stdin=subprocess.DEVNULL, **options)
    t.equal((done.returncode, done.stderr), (0, b""), command)
    return done.stdout


def sha(data):
    return hashlib.sha256(data).hexdigest()


def check_gzip_readers(t, path):
    raw = silent(t, "gzip", "-dc", path)
    silent(t, "gzip", "-t", path)
    commands = [("pigz", "-dc"), ("busybox", "gunzip", "-c"), ("bsdcat",), ("zstd", "-dcq"), ("igzip", "-dc")]
    ran = 0
    for command in commands:
        if shutil.which(command[0]):
            t.equal(sha(silent(t, *command, path)), sha(raw), command)
            ran += 1
    assert ran >= 3, "pigz, busybox and bsdcat should be here"
    return raw


def check_tar_readers(t, path, dump, names, unpack="-xOzf", listing="-tzf"):
    for tar in (("tar",), ("bsdtar",), ("busybox", "tar")):
        if not shutil.which(tar[0]) or (tar[0] == "busybox" and "z" not in unpack):
            continue
        t.equal(sha(silent(t, *tar, unpack, path, "database.sql")), sha(dump), tar)
        listed = silent(t, *tar, listing, path, env=dict(os.environ, LC_ALL="C.UTF-8")).splitlines()
        t.equal(len(listed) - (tar[0] == "busybox"), names, f"{tar}: {listed[:3]}")  # busybox writes the newline of a name


def check_python(t, path, dump, names):
    for mode in ("r:gz", "r|gz", "r|*"):
        count = 0
        with tarfile.open(path, mode) as f:
            for m in f:
                count += 1
                if m.name == "database.sql":
                    t.equal(sha(f.extractfile(m).read()), sha(dump), mode)
        t.equal(count, names, mode)


def check_php_and_perl(t, path, raw, dump):
    if shutil.which("php"):
        code = 'new PharData($argv[1]); echo hash("sha256", file_get_contents("phar://$argv[1]/database.sql"));'
        t.equal(silent(t, "php", "-d", "error_reporting=E_ALL", "-d", "display_errors=stderr", "-r", code, path).decode(), sha(dump), "PharData")
        code = '$g = gzopen($argv[1], "rb"); $h = hash_init("sha256"); while (!gzeof($g)) hash_update($h, gzread($g, 65536)); echo hash_final($h);'
        t.equal(silent(t, "php", "-r", code, path).decode(), sha(raw), "gzopen")
    code = 'my $z = IO::Uncompress::Gunzip->new($ARGV[0]); binmode STDOUT; while ($z->read(my $b, 65536) > 0) { print $b }'
    t.equal(sha(silent(t, "perl", "-MIO::Uncompress::Gunzip", "-e", code, path)), sha(raw), "perl")
    if shutil.which("node"):
        code = 'require("fs").createReadStream(process.argv[1]).pipe(require("zlib").createGunzip()).pipe(process.stdout)'
        t.equal(sha(silent(t, "node", "-e", code, path)), sha(raw), "node")


def test_gzip_archives(t):
    path = archive(t, "default")
    for kind in ("default", "fast"):
        if kind == "fast":
            os.remove(path)
            shutil.rmtree(t.path("tree"))
            path = archive(t, "fast")
        raw = check_gzip_readers(t, path)
        dump = silent(t, "tar", "-xOzf", path, "database.sql")
        assert dump.rstrip().splitlines()[-1].startswith(b"-- Dump completed"), dump[-200:]
        with tarfile.open(path) as f:
            names = len(f.getnames())
        check_tar_readers(t, path, dump, names)
        check_python(t, path, dump, names)
        check_php_and_perl(t, path, raw, dump)


def test_zstd_archives(t):
    path = archive(t, "zstd")
    silent(t, "zstd", "-tq", path)
    dump = silent(t, "tar", "--zstd", "-xOf", path, "database.sql")
    assert dump.rstrip().splitlines()[-1].startswith(b"-- Dump completed"), dump[-200:]
    names = len(silent(t, "tar", "--zstd", "-tf", path).splitlines())
    check_tar_readers(t, path, dump, names, "-xOf", "-tf")


def test_prune_keeps_what_the_rules_say(t):
    tree = backupdata.tree(t.path("tree"), noise=1000)
    config = backupdata.config(t, files=[tree], keep_daily=2, keep_monthly=2)
    t.equal(t.run(BACKUP, "create", "--config", config).returncode, 0)
    made = next(n for n in os.listdir(t.path("archives")) if n.startswith("paroisse"))
    days = ("20260105", "20260106", "20251231", "20251130", "20251101")
    for day in days:
        shutil.copy(t.path("archives", made), t.path("archives", f"paroisse-{day}T120000Z.tar.gz"))
    os.remove(t.path("archives", made))
    for other in ("another-20200101T000000Z.tar.gz", "notes.txt", "paroisse-20200101T000000Z.tar.gz.sha256"):
        t.write(f"archives/{other}", "not ours")

    def there():
        return sorted(n for n in os.listdir(t.path("archives")) if n[0] != ".")
    before = there()
    dry = t.run(BACKUP, "prune", "--config", config, "--dry-run")
    t.equal(dry.returncode, 0, dry.stderr)
    t.contains(dry.stdout, "remove paroisse-20251130T120000Z.tar.gz")
    t.contains(dry.stdout, "keep   paroisse-20251231T120000Z.tar.gz  monthly")
    t.equal(there(), before, "a dry run removes nothing")
    done = t.run(BACKUP, "prune", "--config", config)
    t.equal((done.returncode, done.stdout), (0, dry.stdout), done.stderr)
    kept = ["paroisse-20251231T120000Z.tar.gz", "paroisse-20260105T120000Z.tar.gz", "paroisse-20260106T120000Z.tar.gz"]
    t.equal(there(), sorted(set(before) - {f"paroisse-{d}T120000Z.tar.gz" for d in ("20251130", "20251101")}))
    # The newest one that opens stays, whatever the rule.
    with open(t.path("archives", kept[-1]), "r+b") as f:
        f.truncate(500)
    done = t.run(BACKUP, "prune", "--config", config, "--keep-last", "1", "--keep-daily", "0", "--keep-monthly", "0")
    t.equal(done.returncode, 0, done.stderr)
    t.contains(done.stderr, f"{kept[-1]}: does not open")
    t.contains(done.stdout, f"keep   {kept[1]}  newest good one")
    t.contains(done.stdout, f"remove {kept[0]}")


def test_prune_keeps_the_newest_good_one_even_when_names_lie(t):
    """A copy with a name of the future, and a file that only looks like an archive, must not replace it."""
    tree = backupdata.tree(t.path("tree"), noise=1000)
    config = backupdata.config(t, files=[tree])
    t.equal(t.run(BACKUP, "create", "--config", config).returncode, 0)
    made, = (n for n in os.listdir(t.path("archives")) if n.startswith("paroisse"))
    shutil.copy(t.path("archives", made), t.path("archives/paroisse-20990101T000000Z.tar.gz"))
    shutil.copy(t.path("archives", made), t.path("archives/paroisse-20200101T000000Z.tar.gz"))
    t.write("archives/paroisse-20990202T000000Z.tar.gz", "no archive\n" * 500)
    os.mkdir(t.path("archives/paroisse-20990303T000000Z.tar.gz"))
    for _ in range(2):
        done = t.run(BACKUP, "prune", "--config", config, "--keep-last", "1")
        t.equal(done.returncode, 0, done.stderr)
        t.contains(done.stdout, f"keep   {made}  newest good one")
        t.contains(done.stderr, "paroisse-20990101T000000Z.tar.gz: was not made when its name says")
        t.contains(done.stderr, "paroisse-20990202T000000Z.tar.gz: does not open")
        assert os.path.exists(t.path("archives", made))
        assert not os.path.exists(t.path("archives/paroisse-20200101T000000Z.tar.gz"))


def test_prune_removes_nothing_when_nothing_opens(t):
    config = backupdata.config(t, files=[backupdata.tree(t.path("tree"), noise=1000)])
    names = [f"paroisse-2026010{day}T000000Z.tar.gz" for day in (1, 2, 3)]
    for name in names:
        t.write(f"archives/{name}", "no archive\n" * 500)
    done = t.run(BACKUP, "prune", "--config", config, "--keep-last", "1")
    t.equal((done.returncode, done.stdout), (65, ""), done.stderr)
    t.contains(done.stderr, "no archive opens: nothing is removed")
    t.equal(sorted(n for n in os.listdir(t.path("archives")) if n[0] != "."), names)


def test_create_prunes_after_success_only(t):
    tree = backupdata.tree(t.path("tree"), noise=1000)
    config = backupdata.config(t, files=[tree], keep_last=2)
    for _ in range(3):
        t.equal(t.run(BACKUP, "create", "--config", config).returncode, 0)
    left = [n for n in os.listdir(t.path("archives")) if n.startswith("paroisse")]
    t.equal(len(left), 2)
    t.equal(t.run(BACKUP, "create", "--config", config, "--files", "/no/such").returncode, 66)
    t.equal(sorted(n for n in os.listdir(t.path("archives")) if n.startswith("paroisse")), sorted(left))


civitest.main(globals())
