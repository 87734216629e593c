"""Made-up data for the backup benchmark: a database and a tree in the proportions of a CiviCRM site.

Three quarters of the tree's bytes do not compress (photographs, office files), the rest is source text;
the database is contacts, mails, serialised caches and a log. The same for the same sizes on one Debian release.
"""
import glob
import os
import random
import subprocess
import zlib

FIRST = "Anne Marie Jean Pierre Zoé François Hélène Karim Sofia Łukasz Øyvind Nguyễn Ángel Jürgen Chloé Mehmet".split()
LAST = "Martin Bernard Dubois Müller Rossi García Nowak Kowalski Østergaard Çelik Nguyen Petit Leroy Moreau".split()
STREET = "rue de l'Église,avenue Victor-Hugo,place du Marché,Hauptstraße,chemin des Vignes,quai Saint-Nicolas".split(",")


def corpus():
    """Real source text of this machine: ratios are those of real code."""
    text = bytearray()
    for path in sorted(glob.glob("/usr/lib/python3*/*.py") + glob.glob("/usr/share/perl/5*/**/*.p[ml]", recursive=True)):
        if os.path.isfile(path):
            with open(path, "rb") as f:
                text += f.read(80_000)
        if len(text) > 24 << 20:
            break
    return bytes(text)


class Tree:
    def __init__(self, folder, seed=11):
        self.folder, self.rng, self.text, self.bytes, self.files = folder, random.Random(seed), corpus(), 0, 0

    def put(self, name, data):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        when = 1_700_000_000_000_000_000 + self.rng.randrange(10**16)
        os.utime(path, ns=(when, when))
        self.bytes += len(data)
        self.files += 1

    def code(self, size):
        start = self.rng.randrange(len(self.text) - size)
        return self.text[start:start + size]

    def picture(self, size):
        noise = self.rng.randbytes(size).replace(b"\xff", b"\xff\x00")
        return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + noise + b"\xff\xd9"

    def document(self, size):
        out = b"%PDF-1.5\n"
        while len(out) < size:
            part = self.rng.randbytes(20_000) if self.rng.random() < .7 else zlib.compress(self.code(24_000))
            out += b"%d 0 obj\n<< /Filter /FlateDecode /Length %d >>\nstream\n" % (len(out), len(part)) + part + b"\nendstream\nendobj\n"
        return out

    def fill(self, megabytes):
        n = 0
        while self.bytes < megabytes * 10**6:
            n += 1
            day = f"{2015 + n % 10}-{n % 12 + 1:02d}"
            for k in range(4):
                self.put(f"sites/default/files/civicrm/templates_c/{n % 97:02x}/{n}-{k}.tpl.php", self.code(self.rng.randrange(1_500, 18_000)))
            if n % 2:
                self.put(f"sites/default/files/php/{n % 53}/{n}.php", self.code(self.rng.randrange(1_000, 12_000)))
            self.put(f"sites/default/files/{day}/photo de l'été {n}.jpg", self.picture(self.rng.randrange(8_000, 250_000)))
            self.put(f"sites/default/files/styles/medium/{day}/{n}.jpg", self.picture(self.rng.randrange(3_000, 40_000)))
            if n % 6 == 0:
                self.put(f"sites/default/files/civicrm/custom/reçu_{n}.pdf", self.document(self.rng.randrange(30_000, 300_000)))
            if n % 15 == 0:
                self.put(f"private/{n}.docx", b"PK\x03\x04" + self.rng.randbytes(self.rng.randrange(15_000, 300_000)))
            if n % 200 == 0:
                line = b"2026-01-02 10:00:%02d+0000 [info] %s\n"
                self.put(f"sites/default/files/civicrm/ConfigAndLog/{n}.log", b"".join(line % (i % 60, self.code(70).replace(b"\n", b" ")) for i in range(9000)))
        return self


def sql(megabytes, seed=5):
    """The statements, as pieces of text; about so many MB of dump."""
    rng = random.Random(seed)
    yield ("CREATE DATABASE civicrm CHARACTER SET utf8mb4; CREATE DATABASE civilog CHARACTER SET utf8mb4; USE civicrm; SET autocommit = 0;"
           "CREATE TABLE civicrm_contact (id int unsigned NOT NULL PRIMARY KEY, contact_type varchar(64), display_name varchar(128), sort_name varchar(128),"
           " hash varchar(32), street varchar(255), birth_date date, modified timestamp, KEY (sort_name), KEY (hash)) ENGINE=InnoDB;"
           "CREATE TABLE civicrm_mailing_event_queue (id int unsigned NOT NULL PRIMARY KEY, job_id int, email_id int, contact_id int, hash varchar(32)) ENGINE=InnoDB;"
           "CREATE TABLE civicrm_activity (id int unsigned NOT NULL PRIMARY KEY, subject varchar(255), details longtext, activity_date_time datetime) ENGINE=InnoDB;"
           "CREATE TABLE civicrm_cache (id int unsigned NOT NULL PRIMARY KEY, path varchar(255), data longtext) ENGINE=InnoDB;"
           "CREATE TABLE civilog.log_civicrm_contact LIKE civicrm_contact; ALTER TABLE civilog.log_civicrm_contact ADD log_action varchar(8);\n")
    words = corpus().decode("utf-8", "ignore").split()
    words = [w for w in words[:400_000] if w.isalpha()]

    def sentence(n):
        start = rng.randrange(len(words) - n)
        return " ".join(words[start:start + n])

    def contact(i):
        a, b = rng.choice(FIRST), rng.choice(LAST)
        street = rng.choice(STREET).replace("'", "''")
        return (f"({i},'Individual','{a} {b}','{b}, {a}','{rng.getrandbits(128):032x}','{rng.randrange(1, 200)} {street}',"
                f"'{rng.randrange(1930, 2010)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}','2024-01-01 00:00:00'")
    done, i = 0, 0
    while done < megabytes * 10**6:
        batch = range(i + 1, i + 2001)
        i += 2000
        rows = ",".join(contact(k) + ")" for k in batch)
        logs = ",".join(contact(k) + ",'Update')" for k in batch)
        queue = ",".join(f"({k},{k // 500},{k},{rng.randrange(1, i + 1)},'{rng.getrandbits(64):016x}')" for k in range(i * 4 + 1, i * 4 + 8001))
        activity = ",".join(f"({k},'{sentence(5)}','<p>{sentence(60)}</p>','2024-05-06 07:08:09')" for k in batch)
        cache = ",".join("(%d,'%032x','a:80:{%s}')" % (k, rng.getrandbits(128), "".join(
            'i:%d;a:2:{s:2:\\"id\\";s:%d:\\"%d\\";s:5:\\"label\\";s:9:\\"%09d\\";}' % (n, len(str(n)), n, rng.randrange(10**9)) for n in range(80)))
            for k in range(i // 20 + 1, i // 20 + 101))
        for table, values in (("civicrm_contact", rows), ("civilog.log_civicrm_contact", logs), ("civicrm_mailing_event_queue", queue),
                              ("civicrm_activity", activity), ("civicrm_cache", cache)):
            text = f"INSERT INTO {table} VALUES {values};\n"
            done += len(text.encode())
            yield text
    yield ("CREATE TRIGGER after_update AFTER UPDATE ON civicrm_contact FOR EACH ROW INSERT INTO civilog.log_civicrm_contact (id, log_action) VALUES (NEW.id, 'Update');"
           "CREATE VIEW civicrm_names AS SELECT id, display_name FROM civicrm_contact; COMMIT;\n")


def load(socket, megabytes):
    client = subprocess.Popen(["mariadb", "--no-defaults", f"--socket={socket}", "--user=root", "--max-allowed-packet=64M"], stdin=subprocess.PIPE)
    for text in sql(megabytes):
        client.stdin.write(text.encode())
    client.stdin.close()
    assert client.wait() == 0
