#!/usr/bin/env python3
"""civinit-backup struck at random moments, some 350 times: whatever has a final name verifies, exit 0 goes with exactly
one new archive, anything else with none, and the next run leaves no litter.

    STRIKES_SEED=N   the moments of an earlier run (each run prints its seed)
    STRIKES=N        N times as many
"""
import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import backupdata
import civitest
import mariadb
import places
from mariadb import shared_end  # noqa: F401

BACKUP = civitest.program("civinit-backup")
LOCK = ".civinit-backup.lock"
SEED = os.environ.get("STRIKES_SEED") or str(random.SystemRandom().randrange(10**9))
TIMES = float(os.environ.get("STRIKES", 1)) * (0.3 if civitest.SAN else 1)
SIGNALS = {"term": signal.SIGTERM, "int": signal.SIGINT, "hup": signal.SIGHUP, "kill": signal.SIGKILL}
_making = threading.Lock()


def server():
    with _making:
        s = mariadb.Server.shared()
        if not s.sql("SHOW DATABASES LIKE 'civicrm'"):
            fill(s)
        return s


def fill(s):
    backupdata.databases(s)
    backupdata.account(s)
    backupdata.bulk(s, 2)


def children(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    return []


class Lane:
    """A row of strikes, one after the other, at archives of its own; several lanes run side by side.

    plan: {kind of strike: how many shall hit}. A strike that comes too late hits nothing and is made again."""
    far = False
    codes = {"dump": (69,), "connection": (69,), "database": (69,), "full": (73, 74), "upload": (69,), "blink": (69,)}

    def __init__(self, t, name, plan):
        self.t, self.name = t, name
        self.rng = random.Random(f"{SEED} {name}")
        self.plan = {kind: max(1, round(n * TIMES)) for kind, n in plan.items()}
        self.hits = dict.fromkeys(plan, 0)
        self.misses = 0
        self.folder = t.path(f"lane-{name}")
        os.makedirs(self.folder)
        self.output = t.path(f"{name}.out")
        self.checked = set()
        self.before = None
        self.usual = 0.0

    # What a kind of destination does otherwise.
    def prepare(self):
        """Sets self.config, once."""
        raise NotImplementedError

    def names(self):
        return os.listdir(self.folder)

    def address(self, name):
        return os.path.join(self.folder, name)

    def litter(self):
        return {n for n in self.names() if n.startswith(".") and n != LOCK}

    def finals(self):
        return {n for n in self.names() if not n.startswith(".")}

    def age_litter(self):
        """What a later run may sweep at once looks as if it were of the day before yesterday."""

    # The rows.
    def create(self, *more, limit=None):
        def limited():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with open(self.output, "wb") as out:
            return subprocess.Popen([BACKUP, "create", "--config", self.config, *more], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    start_new_session=True, preexec_fn=limited)

    def said(self):
        with open(self.output, errors="replace") as f:
            return f.read()

    def good_run(self):
        before = self.finals()
        began = time.monotonic()
        code = self.create().wait(150)
        self.usual = time.monotonic() - began
        assert code == 0, f"{self.name}: a run that nothing happens to: {code}: {self.said()}"
        new = self.finals() - before
        assert len(new) == 1, f"{self.name}: {new}"
        return new.pop()

    def verify(self, name):
        done = subprocess.run([BACKUP, "verify", "--quiet", "--config", self.config, self.address(name)], capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, f"{self.name}: {name}: {done.stderr}"
        self.checked.add(name)

    def hit(self, kind, p):
        """The strike itself; begun already for those of prepare_strike."""
        with contextlib.suppress(ProcessLookupError, IndexError):
            if kind in SIGNALS:
                p.send_signal(SIGNALS[kind])
            elif kind == "dump":
                os.kill(children(p.pid)[0], signal.SIGKILL)
            elif kind in ("connection", "blink"):
                self.cutter.snap()
            elif kind == "upload":
                self.cutter.stay_cut()
            elif kind == "database":
                self.server.kill()

    def strike(self, kind):
        before, litter = self.finals(), self.litter()
        limit = self.rng.randrange(1, self.size) if kind == "full" else None
        p = self.create(limit=limit)
        if kind != "full":
            time.sleep(self.rng.random() * self.usual)  # a random moment, not a wait for something
            self.hit(kind, p)
        try:
            code = p.wait(150)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            raise AssertionError(f"{self.name}: {kind}: it hangs: {self.said()}") from None
        if kind == "database":
            self.server.start()
        if kind == "upload":
            self.cutter.mend()
        self.judge(kind, code, self.finals() - before, self.litter() - litter)

    def judge(self, kind, code, new, litter):
        what = f"{self.name}: {kind}, exit code {code}, {sorted(new)}, {sorted(litter)}: {self.said()}"
        # A SIGKILL, or a connection that broke for good, may come when the archive gets its name: nobody can tell any more,
        # and a server may do what it was asked for only a moment later.
        unsure = ("kill", "upload", "blink")
        least, most = (code == 0), (code == 0 or kind in unsure) + (self.before in unsure and self.far)
        assert least <= len(new) <= most, what
        self.before = kind
        if code != 0:
            assert code in self.codes.get(kind, ()) or (kind in SIGNALS and code == -SIGNALS[kind]), what
        if code != 0 or kind == "blink":  # which may be mended by trying again
            self.hits[kind] += 1
        else:
            self.misses += 1
        if kind not in ("kill", "upload", "blink"):  # with these the way to clean up is gone as well
            assert not litter, what
        for name in new - self.checked:
            self.verify(name)
        for name in list(self.finals())[:-3]:
            self.remove(name)

    def remove(self, name):
        os.remove(os.path.join(self.folder, name))

    def run(self):
        self.prepare()
        first = self.good_run()
        self.verify(first)
        self.usual = min(self.usual, *(self.timed() for _ in range(2)))
        self.size = self.size_of(first)
        todo = [kind for kind, n in self.plan.items() for _ in range(n)]
        self.rng.shuffle(todo)
        while todo:
            assert self.misses < 60 + 10 * sum(self.plan.values()), f"{self.name}: too few hit: {self.hits}"
            kind = todo[-1]
            had = self.hits[kind]
            self.strike(kind)
            if self.hits[kind] > had:
                todo.pop()
        self.age_litter()
        self.verify(self.good_run())
        assert not self.litter(), f"{self.name}: litter: {self.litter()}: {self.said()}"

    def timed(self):
        self.good_run()
        return self.usual

    def size_of(self, name):
        return os.path.getsize(os.path.join(self.folder, name))


class Folder(Lane):
    """A database and a tree go into a folder."""

    def prepare(self):
        t = self.t
        self.server = self.database()
        tree = backupdata.tree(t.path(f"tree-{self.name}"), noise=600_000)
        port = None
        if "connection" in self.plan:
            self.cutter = places.Cutter(t, self.server.port)
            port = self.cutter.port
        self.config = self.written(files=[tree], tcp=port is not None)
        if port:
            with open(self.config) as f:
                text = f.read()
            with open(self.config, "w") as f:
                f.write(text.replace(f"port = {self.server.port}", f"port = {port}"))

    def database(self):
        return server()

    def written(self, **more):
        return backupdata.config(self.t, self.server, name=f"{self.name}.ini", destination=self.folder, state_dir=self.t.path(f"{self.name}.state"), **more)


class Sealed(Folder):
    """Encrypted: one more layer that a signal finds at work."""

    def written(self, **more):
        made = self.t.run("age-keygen", "-o", self.t.path("key"))
        return super().written(encrypt_to=self.t.match(made.stderr, r"age1\w+")[0], identity_file=self.t.path("key"), **more)


class Crash(Folder):
    """The database server itself is killed."""

    def database(self):
        s = mariadb.Server(self.t)
        fill(s)
        return s


class Disk(Folder):
    """A file system that is too small."""

    def prepare(self):
        super().prepare()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", self.folder], capture_output=True).returncode == 0
        self.mounted = mounted
        if mounted:
            self.t.defer(subprocess.run, ["umount", "-l", self.folder])

    def strike(self, kind):
        if not self.mounted or self.rng.random() < 0.5:
            return super().strike(kind)  # a limit of the file's size instead
        before, litter = self.finals(), self.litter()
        for name in before:
            os.remove(os.path.join(self.folder, name))
        self.sized(self.rng.randrange(1, self.size))
        code = self.create().wait(150)
        new, left = self.finals(), self.litter() - litter
        self.sized(64 << 20)
        return self.judge(kind, code, new, left)

    def sized(self, bytes_):
        subprocess.run(["mount", "-o", f"remount,size={bytes_}", self.folder], check=True)


class Remote(Lane):
    """A tree that does not shrink goes to a server."""
    noise = 3 << 20
    far = True

    def prepare(self):
        self.place = self.at()
        tree = self.t.path(f"tree-{self.name}")
        os.makedirs(tree)
        for i in range(8):
            with open(f"{tree}/{i}.jpg", "wb") as f:
                f.write(os.urandom(self.noise // 8))
        self.cutter = places.Cutter(self.t, self.place.port)
        more = {**self.place.config, **self.through(self.cutter.port), "state_dir": self.t.path(f"{self.name}.state")}
        self.config = backupdata.config(self.t, files=[tree], databases=(), name=f"{self.name}.ini", **more)
        self.verified = backupdata.config(self.t, files=[tree], databases=(), name=f"{self.name}.direct.ini",
                                          **{**self.place.config, "destination": self.place.destination})

    def names(self):
        return self.place.names()

    def address(self, name):
        return f"{self.place.destination}/{name}"

    def verify(self, name):
        through, self.config = self.config, self.verified
        super().verify(name)
        self.config = through

    def remove(self, name):
        os.remove(os.path.join(self.place.folder, name))

    def size_of(self, name):
        return None


class Sftp(Remote):
    codes = {**Lane.codes, "upload": (69, 77)}  # libssh2 calls a connection that broke during the login a refused one

    def at(self):
        return places.Sftp(self.t)

    def through(self, port):
        return {"destination": self.place.destination.replace(f":{self.place.port}", f":{port}"), "ssh_known_hosts": self.place.known(port)}

    def age_litter(self):
        """The age is in the name."""
        for n, name in enumerate(self.litter()):
            os.rename(os.path.join(self.place.folder, name), os.path.join(self.place.folder, f".paroisse-2020010{n % 9 + 1}T{n:06d}Z.tar.gz.part"))


class Dav(Remote):
    def at(self):
        return places.Dav(self.t)

    def through(self, port):
        return {"destination": f"http://127.0.0.1:{port}"}

    def age_litter(self):
        for name in self.litter():
            os.utime(os.path.join(self.place.folder, name), (10**9, 10**9))

    def litter(self):
        """mod_dav writes beside the name first, and what a cut connection leaves there is its own to remove."""
        return {n for n in super().litter() if n.endswith(".part")}


class S3(Remote):
    noise = 11 << 20  # three parts

    def at(self):
        return places.S3(self.t)

    def through(self, port):
        return {"destination": self.place.destination, "endpoint": f"http://127.0.0.1:{port}"}

    def litter(self):
        return set(self.place.uploads())

    def finals(self):
        return set(self.place.names())

    def remove(self, name):
        self.place.request("DELETE", f"/{self.place.bucket}/site/{name}")

    def age_litter(self):
        """The server tells when an upload began: in between it is told otherwise."""
        def yesterday(method, path, data):
            return re.sub(rb"<Initiated>[^<]*<", b"<Initiated>2020-01-01T00:00:00.000Z<", data) if "uploads=" in path else data
        proxy = places.Proxy(self.t, self.place.port)
        proxy.edit = yesterday
        with open(self.config) as f:
            text = f.read()
        with open(self.config, "w") as f:
            f.write(text.replace(f":{self.cutter.port}\n", f":{proxy.port}\n"))


def run_lanes(t, lanes):
    print(f"STRIKES_SEED={SEED}", flush=True)
    problems = []

    def go(lane):
        try:
            lane.run()
        except civitest.Skip as e:
            print(f"{lane.name}: left out: {e}", flush=True)
        except BaseException as e:
            traceback.print_exc()
            problems.append(f"{lane.name}: {type(e).__name__}: {e}")
    threads = [threading.Thread(target=go, args=(lane,), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(1)
    for lane in lanes:
        print(f"{lane.name}: {lane.hits} hit, {lane.misses} too late, a run takes {lane.usual:.2f} s", flush=True)
    assert not problems, problems[0]
    return sum(n for lane in lanes for n in lane.hits.values())


def test_backups_into_a_folder(t):
    hits = run_lanes(t, [Folder(t, "signals", {"term": 20, "int": 20, "hup": 20, "kill": 20}), Sealed(t, "sealed", {"term": 20, "kill": 20}),
                         Folder(t, "dump", {"dump": 50, "connection": 40}),
                         Crash(t, "crash", {"database": 20}), Disk(t, "disk", {"full": 40})])
    assert hits >= 250 * TIMES, hits


def test_uploads(t):
    hits = run_lanes(t, [Sftp(t, "sftp", {"term": 10, "kill": 10, "upload": 12}), Dav(t, "dav", {"term": 10, "kill": 10, "upload": 12}),
                         S3(t, "s3", {"term": 10, "kill": 10, "upload": 6, "blink": 10})])
    assert hits >= 60 * TIMES, hits  # a machine may lack one of the three servers


for _test in (test_backups_into_a_folder, test_uploads):
    _test.limit = 900

civitest.main(globals())
