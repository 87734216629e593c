"""Instances of config/kubernetes as podman pods, for tests/images, tests/demo and tests/bench/pod.

The very files of config/kubernetes are played; what podman ignores is added here: a StatefulSet's
and a CronJob's template becomes a Pod, readiness and liveness are asked for with the specs' own
commands, and pods find each other by name on a network of their own. Every instance has a name of
its own in place of "demo", so that nothing of two tests meets.
"""
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import subprocess
import tempfile
import textwrap
import time

import civitest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STATE = os.environ.get("CIVINIT_PODMAN_STATE", "/var/cache/civinit-tests/podman")
SPECS = os.path.join(ROOT, "config/kubernetes")
# A tag per working tree: two of them on one machine do not mix up their images.
TAG = "test-" + hashlib.sha256(ROOT.encode()).hexdigest()[:8]
BEFORE = 120  # seconds: how long to wait for anything


class Late(Exception):
    """A wait that found nothing until its deadline."""


class Failed(Exception):
    """A command of podman that failed."""


def unusable():
    """Why there is no podman here, or None."""
    with contextlib.suppress(OSError), open(f"{STATE}/unusable") as f:
        return f"no podman: {f.read().strip()}"
    return None if os.path.ismount(f"{STATE}/ns/mnt") or os.path.exists(f"{STATE}/root") else \
        "no podman: run tests/images/setup as root first"


def podman(*command, check=True, input=None, seconds=300, env=None, cwd=None):
    """Runs podman; the CompletedProcess. With check a failure is a Failed with what it said."""
    p = subprocess.run([os.path.join(ROOT, "tests/images/podman"), *map(str, command)], input=input, text=True,
                       errors="replace", capture_output=True, timeout=seconds, cwd=cwd or ROOT,
                       env=dict(os.environ, **(env or {})), stdin=subprocess.DEVNULL if input is None else None)
    if check and p.returncode:
        raise Failed(f"podman {' '.join(map(str, command))[:200]}: {p.returncode}\n{p.stderr[-3000:]}{p.stdout[-1000:]}")
    return p


def image(target):
    return f"localhost/civinit/{target}:{TAG}"


def build(*targets, say=lambda text: None):
    """Builds images; what has not changed costs a second. A download that breaks off is tried again."""
    with open(f"{STATE}/build.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for target in targets:
            began = time.monotonic()
            for attempt in (1, 2, 3):
                p = podman("build", "--quiet", "-f", "images/Dockerfile", "--target", target, "-t", image(target), ".",
                           check=False, seconds=1500)
                if p.returncode == 0:
                    break
                if attempt == 3 or "civinit check" in p.stderr[-400:]:
                    raise Failed(f"image {target} does not build:\n{p.stderr[-6000:]}")
                time.sleep(3)
            say(f"image {target}: {time.monotonic() - began:.0f} s")


def main(names, *targets):
    """Builds the images that a test file needs, outside of its tests' time limits, then runs them."""
    why = unusable()
    if not why:
        build(*targets, say=lambda text: print(text, flush=True))
    for name, function in names.items():
        if name.startswith("test_"):
            function.limit = 600
    civitest.main(names)


def need():
    """Skips the test where there is no podman."""
    why = unusable()
    if why:
        raise civitest.Skip(why)


def wait_for(what, condition, seconds=BEFORE, every=0.2):
    """Calls condition() until it is true and returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise Late(f"waited {seconds} s for: {what}")
        time.sleep(every)


def get(address, path="/index.php", seconds=120, port=8080):
    """(status, body) of a GET; (0, reason) when there was no answer."""
    c = http.client.HTTPConnection(address, port, timeout=seconds)
    try:
        c.request("GET", path)
        r = c.getresponse()
        return r.status, r.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as e:
        return 0, repr(e)
    finally:
        c.close()


def ready(web):
    """Waits until a web container says it is ready."""
    try:
        wait_for(f"{web.name} to be ready", lambda: web.exec("civinit", "ready").returncode == 0)
    except Late as e:
        raise Late(f"{e}\n{web.exec('civinit', 'status').stdout}\n{web.logs()[-4000:]}") from None


def documents(text):
    return [d for d in re.split(r"^---\n", text, flags=re.M) if re.search(r"^kind:", d, re.M)]


def kind(document):
    return re.search(r"^kind: (\w+)", document, re.M)[1]


def name_of(document):
    return re.search(r"^metadata:\n  name: (\S+)", document, re.M)[1]


def as_pod(document):
    """A StatefulSet, Deployment or CronJob as the Pod of its template, under its own name."""
    if kind(document) not in ("StatefulSet", "Deployment", "CronJob", "Job"):
        return document
    start = [m for m in re.finditer(r"^( *)template:\n", document, re.M)][-1]
    block = re.match(rf"(?:{start[1]} +.*\n|\n)*", document[start.end():])[0]
    pod = textwrap.dedent(block).replace("metadata:\n", f"metadata:\n  name: {name_of(document)}\n", 1)
    return f"apiVersion: v1\nkind: Pod\n{pod}"


class Container:
    def __init__(self, name):
        self.name = name

    def inspect(self, field):
        p = podman("inspect", "--format", "{{" + field + "}}", self.name, check=False)
        return p.stdout.strip()

    def running(self):
        return self.inspect(".State.Running") == "true"

    def exec(self, *command, check=False, env=None, seconds=120):
        options = [o for k, v in (env or {}).items() for o in ("--env", f"{k}={v}")]
        return podman("exec", *options, self.name, *command, check=check, seconds=seconds)

    def logs(self):
        p = podman("logs", self.name, check=False)
        return p.stdout + p.stderr

    def wait_log(self, pattern, seconds=BEFORE):
        try:
            return wait_for(f"{pattern!r} in the log of {self.name}", lambda: re.search(pattern, self.logs(), re.M), seconds)
        except Late as e:
            raise Late(f"{e}\n{self.logs()[-4000:]}") from None

    def wait_end(self, seconds=BEFORE):
        """Waits until the container has ended; its exit code."""
        try:
            wait_for(f"the end of {self.name}", lambda: self.inspect(".State.Status") in ("exited", "stopped"), seconds)
        except Late as e:
            raise Late(f"{e}\n{self.logs()[-4000:]}") from None
        return int(self.inspect(".State.ExitCode"))

    def pids(self):
        """The container's processes as this machine numbers them: {pid: command}."""
        pid = self.inspect(".State.Pid")
        if pid in ("", "0"):
            return {}
        top = podman("top", self.name, "hpid", "comm", check=False).stdout.splitlines()[1:]
        return {int(line.split()[0]): line.split()[1] for line in top if len(line.split()) > 1}


class Instance:
    """One instance: its network, its Secrets, the pods that were played for it."""
    count = 0

    def __init__(self, databases=("civicrm",)):
        Instance.count += 1
        self.name = f"i{os.getpid()}x{Instance.count}"
        self.databases = databases
        self.dir = tempfile.mkdtemp(prefix="civinit-pods-")
        self.played = []
        self.extra = []
        podman("network", "create", self.name)
        self.secrets = subprocess.run([os.path.join(SPECS, "make-secrets"), self.name, *databases], check=True,
                                      capture_output=True, text=True).stdout
        self.settings = documents(self.spec("instance.yaml"))[0]

    def spec(self, file, changes=()):
        """A file of config/kubernetes as this instance's; each change (old, new) has to meet something."""
        with open(os.path.join(SPECS, file)) as f:
            text = f.read().replace("demo", self.name)
        text = re.sub(r"registry\.example\.org/civinit/(\w+):\S+", lambda m: image(m[1]), text)
        for old, new in changes:
            assert old in text, f"{old!r} is not in {file}"
            text = text.replace(old, new)
        return text

    def secret(self, key):
        return re.search(rf"^  {key}: (\S+)", self.secrets, re.M)[1]

    def play(self, file, changes=(), settings=(), drop_in=None):
        """Plays the pods of a file, together with the Secrets and settings that they name; the
        container of the (first) pod. settings: more lines of the ConfigMap, (key, value).
        drop_in: (role, text), a file more for its configuration, the way of variants/web-drop-in.yaml."""
        common = re.sub(r"^data:\n", "data:\n" + "".join(f'  {k}: "{v}"\n' for k, v in settings), self.settings, flags=re.M)
        for key, _ in settings:
            lines = [m for m in re.finditer(rf"^  {key}: .*\n", common, re.M)]
            for m in reversed(lines[1:]):
                common = common[:m.start()] + common[m.end():]
        pods = [as_pod(d) for d in documents(self.spec(file, changes)) if kind(d) in ("StatefulSet", "Deployment", "CronJob", "Job")]
        if drop_in:
            role, lines = drop_in
            common += (f"---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {self.name}-drop-in-{role}\ndata:\n"
                       f"  50-test.ini: |\n" + textwrap.indent(lines, "    "))
            pods = [re.sub(r"^( *)volumes:\n", rf"\g<0>\1  - {{name: drop-in, configMap: {{name: {self.name}-drop-in-{role}}}}}\n",
                           re.sub(r"^( *)volumeMounts:\n", rf"\g<0>\1  - {{name: drop-in, mountPath: /etc/civinit/{role}.d}}\n",
                                  pod, flags=re.M), flags=re.M) for pod in pods]
        text = "---\n".join([common, self.secrets, *pods])
        path = os.path.join(self.dir, f"{len(self.played)}.yaml")
        with open(path, "w") as f:
            f.write(text)
        self.played.append(path)
        podman("kube", "play", "--replace", "--network", self.name, path)
        pod = name_of(pods[0])
        container = re.search(r"^ *containers:\n *- name: (\S+)$", pods[0], re.M)[1]
        return Container(f"{pod}-{container}")

    def run(self, target, *command, options=(), settings=(), user="33:33", ca=None, password=None, drop_in=None):
        """A role by podman run, for what no spec says: a read-only root without podman's own
        exceptions, no capability, the files of the Secrets bound one by one (password "": none)."""
        name = f"{self.name}-run{len(self.extra)}"
        self.extra.append(name)
        files = os.path.join(self.dir, name)
        os.makedirs(files)
        mounts = []

        def bind(inside, text):
            path = os.path.join(files, os.path.basename(inside))
            with open(path, "w") as f:
                f.write(text)
            mounts.extend(["--volume", f"{path}:{inside}:ro"])

        bind("/etc/mysql-ca/ca.crt", ca or self.ca())
        if password != "":
            bind("/etc/secrets/database/password", password or self.secret("password"))
        if drop_in:
            bind(f"/etc/civinit/{target}.d/50-test.ini", drop_in)
        values = {**dict(re.findall(r"^  ([A-Z_]+): \"?([^\"\n]*)\"?$", self.settings, re.M)), "LOG_FORMAT": "text", **dict(settings)}
        podman("run", "--detach", "--name", name, "--network", self.name, "--user", user, "--read-only",
               "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges",
               *[o for d in ("/run", "/tmp", "/var/lib/civinit") for o in ("--tmpfs", f"{d}:rw,mode=1777")],
               *[o for k, v in values.items() for o in ("--env", f"{k}={v}")], *mounts, *options, image(target), *command)
        return Container(name)

    def ca(self):
        """The CA's certificate."""
        text = re.search(r"^  ca.crt: \|\n((?:    .*\n?)+)", self.secrets, re.M)[1]
        return textwrap.dedent(text)

    def volume(self, claim):
        """The folder of a PersistentVolumeClaim, made if need be."""
        name = f"{self.name}-{claim}"
        podman("volume", "create", "--ignore", name)
        path = STATE + "/root" + podman("volume", "inspect", "--format", "{{.Mountpoint}}", name).stdout.strip()
        os.chmod(path, 0o1777)
        return path

    def site(self, files):
        """Puts files ({name: text}) into the site's volume."""
        folder = self.volume("site")
        for name, text in files.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(text if isinstance(text, bytes) else text.encode())
            os.chmod(path, 0o644)

    def mysql(self):
        """The database pod, once it takes connections; its container."""
        self.volume("mysql")
        db = self.play("mysql.yaml")
        self.wait_mysql(db)
        return db

    def wait_mysql(self, db):
        try:
            wait_for("the database", lambda: self.sql(db, "SELECT 1", check=False).returncode == 0)
        except Late as e:
            raise Late(f"{e}\n{db.logs()[-3000:]}") from None

    def sql(self, db, text, check=True):
        """Runs SQL as root in the database pod, over its local socket."""
        return db.exec("mysql", "--user=root", "--skip-column-names", "--batch", "--execute", text, check=check,
                       env={"MYSQL_PWD": self.secret("root-password")})

    def address(self, container):
        """The pod's address on the instance's network."""
        infra = container.inspect(".Pod")
        name = podman("pod", "inspect", "--format", "{{.InfraContainerID}}", infra).stdout.strip() if infra else container.name
        nets = json.loads(podman("inspect", "--format", "{{json .NetworkSettings.Networks}}", name).stdout)
        return nets[self.name]["IPAddress"]

    def gateway(self):
        """This machine's address on the instance's network."""
        return podman("network", "inspect", "--format", "{{(index .Subnets 0).Gateway}}", self.name).stdout.strip()

    def close(self):
        for name in self.extra:
            podman("rm", "--force", "--time", "0", name, check=False)
        pods = podman("pod", "ps", "--format", "{{.Name}}", check=False).stdout.split()
        for pod in [p for p in pods if p.startswith(self.name + "-")]:
            podman("pod", "rm", "--force", "--time", "0", pod, check=False)
        for what in ("volume", "secret"):
            names = podman(what, "ls", "--format", "{{.Name}}", check=False).stdout.split()
            for n in [n for n in names if n.startswith(self.name + "-")]:
                podman(what, "rm", n, check=False)
        podman("network", "rm", "--force", self.name, check=False)
        subprocess.run(["rm", "-rf", self.dir], check=False)
