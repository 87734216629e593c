#!/usr/bin/env python3
"""The backup role in pods: MySQL 9.7 through mysqlrouter, made, verified, restored."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import pods

# What a dump can lose or bend: zero dates, generated columns, blobs, bits, JSON, text that looks like a dump; triggers of
# either database that write into the other; a definer who is gone.
SCHEMA = r"""
SET SESSION sql_mode = '';
CREATE TABLE civicrm.contact (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80) CHARACTER SET utf8mb4, photo LONGBLOB,
    born DATE, shout VARCHAR(80) GENERATED ALWAYS AS (UPPER(name)) VIRTUAL, lower_name VARCHAR(80) GENERATED ALWAYS AS (LOWER(name)) STORED,
    created DATETIME(6), amount DECIMAL(20,2), ratio DOUBLE, bits BIT(9), kind SET('a','b','c'), state ENUM('x','y'), note LONGTEXT, data JSON,
    KEY (lower_name), FULLTEXT KEY (note));
CREATE TABLE civicrm.email (id INT PRIMARY KEY AUTO_INCREMENT, contact_id INT NOT NULL, email VARCHAR(254),
    CONSTRAINT fk_contact FOREIGN KEY (contact_id) REFERENCES civicrm.contact (id) ON DELETE CASCADE, CHECK (email LIKE '%@%'));
CREATE TABLE civicrm.counter (what VARCHAR(20) PRIMARY KEY, n INT);
CREATE TABLE civilog.log (id INT PRIMARY KEY AUTO_INCREMENT, what TEXT);
CREATE TRIGGER civicrm.contact_after AFTER INSERT ON civicrm.contact FOR EACH ROW INSERT INTO civilog.log (what) VALUES (NEW.name);
CREATE DEFINER = 'gone'@'10.0.0.1' TRIGGER civicrm.contact_changed AFTER UPDATE ON civicrm.contact FOR EACH ROW INSERT INTO civilog.log (what) VALUES ('changed');
CREATE TRIGGER civilog.counted AFTER INSERT ON civilog.log FOR EACH ROW INSERT INTO civicrm.counter VALUES ('log', 1) ON DUPLICATE KEY UPDATE n = n + 1;
CREATE FUNCTION civicrm.twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n;
CREATE PROCEDURE civicrm.forget(who INT) DELETE FROM civicrm.contact WHERE id = who;
CREATE VIEW civicrm.names AS SELECT c.id, c.name, e.email FROM civicrm.contact c LEFT JOIN civicrm.email e ON e.contact_id = c.id;
CREATE EVENT civicrm.nightly ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM civilog.log WHERE id < 0;
INSERT INTO civicrm.contact (name, photo, born, created, amount, ratio, bits, kind, state, note, data) VALUES
    ('Zoë 🎉 中文', UNHEX('00FF0A0D1A275C22'), '0000-00-00', '0000-00-00 00:00:00', -1.50, 1e-7, b'101010101', 'a,c', 'x',
     '-- Dump completed on never\nCREATE TABLE `fake` (\nDELIMITER ;;', '{"a": [1, "two", null]}'),
    ('O''Brien \\ "x"', REPEAT(UNHEX('000102030405060708090a0d1a22275c5d80ff'), 20000), '1970-00-00', '2024-02-29 12:34:56.789012', 99999999999999.99,
     -1.7976931348623157e308, b'0', '', 'y', 'line\nline\r\n\ttab\0nul /*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */', NULL),
    (NULL, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', NULL);
INSERT INTO civicrm.email (contact_id, email) SELECT id, CONCAT('mail', id, '@example.org') FROM civicrm.contact;
"""
shared = {}


def the_instance():
    if "instance" not in shared:
        pods.need()
        shared["instance"] = i = pods.Instance(databases=("civicrm", "civilog"))
        i.site({"index.php": "<?php\n", "files/photo.bin": os.urandom(300000), "files/Zoë/ünïcode.txt": "text\n"})
        os.symlink("../index.php", os.path.join(i.volume("site"), "files/link"))
        os.chmod(i.volume("backup"), 0o1777)
        shared["db"] = i.mysql()
        i.sql(shared["db"], SCHEMA)
    return shared["instance"]


def shared_end():
    if "instance" in shared:
        shared["instance"].close()


NAMES = [("DATABASE_NAMES", "civicrm civilog"), ("LOG_FORMAT", "text"), ("DATABASE_TIMEOUT", "60s")]


def archives(i):
    return sorted(f for f in os.listdir(i.volume("backup")))


def finals(i):
    return [f for f in archives(i) if f.endswith(".tar.gz")]


def content(i):
    """What a restore has to bring back: rows, definitions, files."""
    db = shared["db"]
    rows = i.sql(db, "SELECT id, HEX(name), SHA2(photo, 256), born, HEX(shout), HEX(lower_name), created, amount, ratio, HEX(bits), kind, state, HEX(note), data "
                     "FROM civicrm.contact ORDER BY id; "
                     "CHECKSUM TABLE civicrm.contact, civicrm.email, civicrm.counter, civilog.log; "
                     "SHOW CREATE TABLE civicrm.contact; SHOW CREATE TABLE civicrm.email; SHOW CREATE TABLE civicrm.counter; SHOW CREATE TABLE civilog.log; "
                     "SELECT * FROM civilog.log ORDER BY id; SELECT * FROM civicrm.counter; SELECT civicrm.twice(21); SELECT * FROM civicrm.names; "
                     "SELECT event_name, status, event_definition FROM information_schema.events WHERE event_schema = 'civicrm'; "
                     "SELECT routine_name, routine_type, routine_definition FROM information_schema.routines WHERE routine_schema = 'civicrm' ORDER BY 1; "
                     "SELECT trigger_schema, trigger_name, action_timing, event_manipulation, action_statement FROM information_schema.triggers "
                     "WHERE trigger_schema LIKE 'civi%' ORDER BY 1, 2").stdout
    site = i.volume("site")
    files = {}
    for folder, _, names in os.walk(site):
        for n in names:
            path = os.path.join(folder, n)
            if os.path.islink(path):
                files[os.path.relpath(path, site)] = os.readlink(path)
            else:
                with open(path, "rb") as f:
                    files[os.path.relpath(path, site)] = f.read()
    return rows, files


def tool(i, *words):
    """civinit-backup by hand, in a container of the backup image without a network."""
    return pods.podman("run", "--rm", "--network", "none", "--user", "33:33", "--volume", f"{i.name}-backup:/backup",
                       "--entrypoint", "civinit-backup", pods.image("backup"), *words, check=False)


def site_and_backup(i):
    return ["--volume", f"{i.name}-backup:/backup:ro", "--volume", f"{i.name}-site:/var/www/html"]


def create(i, **more):
    """The CronJob's pod, to its end."""
    pod = i.play("backup.yaml", settings=NAMES, **more)
    return pod, pod.wait_end()


def test_made_verified_restored(t):
    i = the_instance()
    before = content(i)
    pod, code = create(i)
    t.equal(code, 0, f"exit code; {pod.logs()[-4000:]}")
    t.lacks(pod.logs(), i.secret("backup-password"))
    t.equal(len(finals(i)), 1, "archives")
    archive = "/backup/" + finals(i)[0]
    t.match(archive, rf"/{i.name}-\d{{8}}T?\d*.*\.tar\.gz$")
    p = tool(i, "verify", archive)
    t.equal(p.returncode, 0, p.stdout + p.stderr)
    t.contains(tool(i, "list", archive).stdout, "database.sql")

    # Everything is lost, and comes back with the site's own account, which has no SUPER.
    i.sql(shared["db"], "DROP DATABASE civicrm; DROP DATABASE civilog; CREATE DATABASE civicrm; CREATE DATABASE civilog")
    site = i.volume("site")
    for name in os.listdir(site):
        path = os.path.join(site, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    c = i.run("backup", "restore", "--", "--db", "--in-place", archive, settings=NAMES, options=site_and_backup(i))
    t.equal(c.wait_end(), 0, f"exit code; {c.logs()[-4000:]}")
    t.equal(content(i), before, "what came back")
    # The definer who is gone is left out: what would fail (1449) where the archive comes from works here.
    i.sql(shared["db"], "UPDATE civicrm.contact SET state = 'y' WHERE id = 1")
    t.equal(i.sql(shared["db"], "SELECT what FROM civilog.log ORDER BY id DESC LIMIT 1").stdout, "changed\n")


def test_drill(t):
    """A restore into scratch databases and a scratch folder, compared, with nothing left of it."""
    i = the_instance()
    if not finals(i):
        create(i)
    c = i.run("backup", "restore", "--", "--drill", "latest", settings=NAMES, options=site_and_backup(i))
    t.equal(c.wait_end(), 0, f"exit code; {c.logs()[-3000:]}")
    t.contains(c.logs(), "proven")
    t.lacks(i.sql(shared["db"], "SHOW DATABASES").stdout, "drill")


def test_flipped_bit(t):
    i = the_instance()
    if not finals(i):
        create(i)
    folder = i.volume("backup")
    with open(os.path.join(folder, finals(i)[0]), "rb") as f:
        data = bytearray(f.read())
    data[len(data) // 2] ^= 1
    with open(os.path.join(folder, "flipped.tgz"), "wb") as f:
        f.write(data)
    p = tool(i, "verify", "/backup/flipped.tgz")
    os.unlink(os.path.join(folder, "flipped.tgz"))
    t.equal(p.returncode, 65, p.stdout + p.stderr)


def test_missing_grant(t):
    """Without TRIGGER mysqldump would leave the triggers out and say nothing."""
    i = the_instance()
    had = archives(i)
    i.sql(shared["db"], "REVOKE TRIGGER ON civicrm.* FROM 'backup'@'%'")
    try:
        pod, code = create(i)
    finally:
        i.sql(shared["db"], "GRANT TRIGGER ON civicrm.* TO 'backup'@'%'")
    t.equal(code, 77, f"exit code; {pod.logs()[-3000:]}")
    t.match(pod.logs(), r"TRIGGER")
    t.equal(archives(i), had, "files in the destination")


def test_wrong_password(t):
    i = the_instance()
    had = archives(i)
    c = i.run("backup", "backup", password="wrong", settings=[*NAMES, ("DATABASE_TIMEOUT", "2s")],
              options=["--volume", f"{i.name}-backup:/backup", "--volume", f"{i.name}-site:/var/www/html:ro"])
    t.equal(c.wait_end(), 77, f"exit code; {c.logs()[-3000:]}")
    t.match(c.logs(), r"(?i)access denied")
    t.equal(archives(i), had, "files in the destination")


if __name__ == "__main__":
    pods.main(globals(), "backup", "mysql")
