"""What the tests of civinit-backup back up: databases with everything a dump can lose, and a tree with odd names.

    databases(server)            civicrm, drupal, civilog: triggers across them, views, routines, events …
    account(server)              the least an account for dumps needs; the path of its password file
    tree(folder)                 links, holes, attributes, long and broken names
    config(t, server, …)         backup.ini; its path
    same_tree(t, a, b)           compares two trees
"""
import hashlib
import os
import stat
import struct
import subprocess
import sys

DATABASES = ("civicrm", "drupal", "civilog")
LEAST = "SELECT, SHOW VIEW, TRIGGER, EVENT"

SQL = r"""
CREATE DATABASE civicrm CHARACTER SET utf8mb4; CREATE DATABASE drupal CHARACTER SET utf8mb4; CREATE DATABASE civilog CHARACTER SET utf8mb4;
SET SESSION sql_mode = '';
USE civilog;
CREATE TABLE log_contact (id int unsigned NOT NULL, display_name varchar(128), log_action varchar(16), KEY (id)) ENGINE=InnoDB;
USE civicrm;
CREATE TABLE civicrm_contact (
  id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, display_name varchar(128) COLLATE utf8mb4_unicode_ci, sort_name varchar(128) AS (LOWER(display_name)) STORED,
  name_length int AS (CHAR_LENGTH(display_name)) VIRTUAL, birth_date date, created datetime(6), modified timestamp NULL, amount decimal(20,2), ratio double, bits bit(9),
  kind set('a','b','c'), state enum('x','y'), note longtext, raw varbinary(64), UNIQUE KEY (display_name, id), KEY (sort_name)) ENGINE=InnoDB;
CREATE TABLE civicrm_email (id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, contact_id int unsigned NOT NULL, email varchar(254),
  CONSTRAINT fk_contact FOREIGN KEY (contact_id) REFERENCES civicrm_contact (id) ON DELETE CASCADE) ENGINE=InnoDB;
CREATE TABLE civicrm_blob (id int NOT NULL PRIMARY KEY, document longblob) ENGINE=InnoDB;
CREATE TABLE civicrm_cache (id int NOT NULL PRIMARY KEY, data longtext) ENGINE=InnoDB;
CREATE TABLE `odd``name-%_é` (`column with ``ticks` int) ENGINE=InnoDB;
INSERT INTO civicrm_contact (display_name, birth_date, created, modified, amount, ratio, bits, kind, state, note, raw) VALUES
  ('Ann \'quoted\' \\ "back"', '0000-00-00', '2024-02-29 12:34:56.789012', '2024-01-01 00:00:00', -1.50, 1e-7, b'101010101', 'a,c', 'x', 'line\nline\r\n\ttab\0nul', 0x00ff1a0a27),
  ('Zoé 🎉 Ωμέγα 中文', '1970-00-00', '0000-00-00 00:00:00', NULL, 99999999999999.99, -1.7976931348623157e308, b'0', '', 'y', '-- Dump completed on never\nCREATE TABLE `fake` (\nDELIMITER ;;', NULL),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '/*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */', '');
INSERT INTO civicrm_email (contact_id, email) SELECT id, CONCAT('mail', id, '@example.org') FROM civicrm_contact;
INSERT INTO civicrm_blob VALUES (1, REPEAT(UNHEX('000102030405060708090a0d1a22275c5d80ff'), 5000)), (2, ''), (3, NULL);
INSERT INTO civicrm_cache VALUES (1, REPEAT('cached ', 3000));
INSERT INTO `odd``name-%_é` VALUES (1), (NULL);
CREATE VIEW civicrm_active AS SELECT c.id, c.display_name, e.email FROM civicrm_contact c JOIN civicrm_email e ON e.contact_id = c.id;
USE drupal;
CREATE TABLE node (nid int NOT NULL AUTO_INCREMENT PRIMARY KEY, title varchar(255), body longtext) ENGINE=InnoDB;
CREATE TABLE cache_render (cid varchar(255) CHARACTER SET ascii NOT NULL PRIMARY KEY, data longblob) ENGINE=InnoDB;
INSERT INTO node (title, body) VALUES ('first', REPEAT('Lorem ipsum dolor sit amet ', 400));
INSERT INTO cache_render VALUES ('a', REPEAT('x', 100000)), ('b', REPEAT('y', 100000));
CREATE VIEW a_view_before_its_table AS SELECT * FROM node;
"""

PROGRAMS = r"""
USE civicrm;
DELIMITER $$
CREATE FUNCTION civicrm_strip_non_numeric(input varchar(255)) RETURNS varchar(255) CHARSET utf8mb4 DETERMINISTIC NO SQL
BEGIN
  -- CREATE TABLE `not one` (
  RETURN REGEXP_REPLACE(input, '[^0-9]', '');
END$$
CREATE PROCEDURE touch_all()
BEGIN
CREATE TEMPORARY TABLE `t` (id int);
DROP TEMPORARY TABLE `t`;
UPDATE civicrm_contact SET modified = NOW();
END$$
CREATE DEFINER=`gone_user`@`10.0.0.1` TRIGGER contact_after_update AFTER UPDATE ON civicrm_contact FOR EACH ROW
BEGIN
  INSERT INTO civilog.log_contact VALUES (NEW.id, NEW.display_name, 'Update');
END$$
CREATE TRIGGER contact_after_insert AFTER INSERT ON civicrm_contact FOR EACH ROW INSERT INTO civilog.log_contact VALUES (NEW.id, NEW.display_name, 'Insert')$$
CREATE EVENT civicrm_purge ON SCHEDULE EVERY 1 DAY DO DELETE FROM civicrm_cache WHERE id < 0$$
"""


def databases(server):
    server.sql(SQL)
    server.sql(PROGRAMS)


def bulk(server, megabytes):
    """Rows that a dump takes a while for."""
    server.sql("CREATE TABLE IF NOT EXISTS civicrm.bulk (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, data mediumtext)")
    for _ in range(megabytes):
        server.sql("INSERT INTO civicrm.bulk (data) SELECT CONCAT(MD5(RAND()), REPEAT(MD5(RAND()), 300)) FROM seq_1_to_104", "civicrm")


def account(server, name="dump", rights=LEAST, databases=DATABASES, routines=True):
    password = "se'cr\"et \\#1"
    server.sql(f"CREATE OR REPLACE USER '{name}'@'%' IDENTIFIED BY 'se''cr\"et \\\\#1';")
    for database in databases:
        if rights:
            server.sql(f"GRANT {rights} ON `{database}`.* TO '{name}'@'%'")
    if routines:
        server.sql(f"GRANT SELECT ON mysql.proc TO '{name}'@'%'")
    path = os.path.join(server.folder, f"password.{name}")
    with open(path, "w") as f:
        f.write(password + "\n")
    os.chmod(path, 0o600)
    return path


def config(t, server=None, name="backup.ini", user="dump", databases=DATABASES, files=(), tcp=False, **more):
    """[backup] of `more` (its `login` is [backup] user); the archives go to t.dir/archives."""
    if "login" in more:
        more["user"] = more.pop("login")
    text = "[container]\ninstance = paroisse\n"
    if server:
        where = f"host = 127.0.0.1\nport = {server.port}" if tcp else f"socket = {server.socket}"
        text += f"[database]\n{where}\nuser = {user}\npassword_file = {server.folder}/password.{user}\n"
        text += f"[backup]\ndatabases = {' '.join(databases)}\n"
    else:
        text += "[backup]\n"
    if files:
        text += "files = " + " ".join(files) + "\n"
    more.setdefault("destination", t.path("archives"))
    more.setdefault("state_dir", t.path("state"))
    os.makedirs(t.path("archives"), exist_ok=True)
    text += "".join(f"{k} = {v}\n" for k, v in more.items())
    return t.write(name, text)


def acl(*entries):
    """An ACL as the kernel keeps it: (tag, bits[, user])."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, *(who or [0xffffffff])) for tag, bits, *who in entries)


def tree(folder, noise=300_000):
    """A small tree with what trips archivers up; its path."""
    os.makedirs(f"{folder}/sites/default/files/templates_c")
    os.makedirs(f"{folder}/empty")

    def put(name, data, mode=0o644):
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, mode)
        return path
    put("sites/default/settings.php", b"<?php $secret;\n" * 50, 0o440)
    put("sites/default/files/empty.txt", b"")
    put("sites/default/files/noise.jpg", os.urandom(noise))
    put("sites/default/files/text.log", b"a line of a log that compresses well\n" * 20000)
    put("sites/default/files/templates_c/x.tpl.php", b"compiled")
    put("sites/default/files/" + "é" * 120 + ".txt", b"240 bytes of name")
    put(b"sites/default/files/not utf-8 \xff\xfe", b"bytes")
    put("sites/default/files/new\nline", b"newline")
    put("sites/default/files/ends with a blank ", b"blank")
    put("sites/default/files/setgid", b"mode", 0o2755)
    deep = "sites/" + "/".join(f"a-folder-with-a-long-name-{i}" for i in range(12))
    os.makedirs(f"{folder}/{deep}")
    put(f"{deep}/deep.txt", b"deep")
    os.symlink("default", f"{folder}/sites/example.org")
    os.symlink("/etc/hostname", f"{folder}/sites/absolute")
    os.symlink("x" * 200, f"{folder}/sites/long-link")
    os.symlink(b"\xff\xfe", os.fsencode(f"{folder}/sites/broken-link"))
    os.link(f"{folder}/sites/default/settings.php", f"{folder}/sites/hard.php")
    with open(f"{folder}/sites/sparse", "wb") as f:
        f.truncate(20 << 20)
        f.seek(5 << 20)
        f.write(b"data in the middle")
        f.seek(12 << 20)
        f.write(b"y" * 10000)
    os.chmod(f"{folder}/empty", 0o2770)
    try:
        # As setfacl -m u:33:r does, and -d -m u:33:rx for what is made in the folder.
        os.setxattr(f"{folder}/sites/default/settings.php", "system.posix_acl_access", acl((1, 4), (2, 4, 33), (4, 4), (16, 4), (32, 0)))
        os.setxattr(f"{folder}/empty", "system.posix_acl_default", acl((1, 7), (2, 5, 33), (4, 7), (16, 7), (32, 0)))
    except OSError:
        pass
    try:
        os.setxattr(f"{folder}/sites/default/files/empty.txt", "user.note", "très".encode())
    except OSError:
        pass
    for path, _, names in os.walk(os.fsencode(folder)):
        for n, name in enumerate(names):
            os.utime(os.path.join(path, name), ns=(10**9, 1700000000 * 10**9 + n * 123456789), follow_symlinks=False)
    return folder


def describe(folder, nanoseconds=True, owners=True):
    """{path: what it is} of a tree."""
    found = {}
    root = os.fsencode(folder)
    for path, folders, names in os.walk(root):
        for name in folders + names:
            full = os.path.join(path, name)
            st = os.lstat(full)
            what = [stat.filemode(st.st_mode)]
            if owners:
                what.append((st.st_uid, st.st_gid))
            if stat.S_ISLNK(st.st_mode):
                what.append(os.readlink(full))
            elif stat.S_ISREG(st.st_mode):
                with open(full, "rb") as f:
                    what += [st.st_size, hashlib.file_digest(f, "sha256").hexdigest(), st.st_nlink]
                what.append(st.st_mtime_ns if nanoseconds else st.st_mtime_ns // 10**9)
            if not stat.S_ISLNK(st.st_mode):
                what.append(tuple((x, os.getxattr(full, x)) for x in sorted(os.listxattr(full))))
            found[os.path.relpath(full, root)] = tuple(what)
    return found


def same_tree(t, got, want, skip=(), **options):
    a, b = describe(got, **options), describe(want, **options)
    for name in skip:
        b.pop(os.fsencode(name), None)
    assert a.keys() == b.keys(), f"only in one: {sorted(a.keys() ^ b.keys())}"
    for path in a:
        t.equal(a[path], b[path], os.fsdecode(path))


def rows(server, databases=DATABASES, prefix=""):
    """All rows and the text of all objects, for comparing two servers or two sets of databases."""
    out = {}
    for database in databases:
        name = prefix + database
        q = name.replace("'", "''")
        for table, kind in server.sql(f"SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{q}'"):
            quoted = f"`{name}`.`{table.replace('`', '``')}`"
            if kind == "BASE TABLE":
                out[database, table] = server.sql(f"CHECKSUM TABLE {quoted} EXTENDED")[0][1], server.sql(f"SELECT COUNT(*) FROM {quoted}")
            out[database, table, "text"] = server.sql(f"SHOW CREATE TABLE {quoted}")
        out[database, "triggers"] = server.sql("SELECT TRIGGER_NAME, ACTION_STATEMENT, ACTION_TIMING, EVENT_MANIPULATION FROM information_schema.TRIGGERS "
                                               f"WHERE TRIGGER_SCHEMA = '{q}' ORDER BY 1")
        out[database, "routines"] = server.sql(f"SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{q}' ORDER BY 1")
        out[database, "events"] = server.sql(f"SELECT EVENT_NAME, EVENT_DEFINITION FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{q}' ORDER BY 1")
    return out


def peak(command):
    """The peak memory of a command in MiB; started by a small process, whose own size would count otherwise."""
    measure = ("import resource, subprocess, sys\n"
               "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
               "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    done = subprocess.run([sys.executable, "-S", "-c", measure, *command], check=True, capture_output=True, text=True, timeout=150)
    return int(done.stdout) / 1024
