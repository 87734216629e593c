#!/usr/bin/python3
"""The control socket, the client commands, reload, and what bad input is told."""
import json
import os
import re
import stat
import sys
import textwrap

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402
import pid1  # noqa: E402
from pid1 import CIVINIT, TWO, Container, ask, running  # noqa: E402


def test_start_stop_restart(t):
    c = running(t, TWO)
    first = c.service("s")["pid"]
    r = c.ctl("stop", "s")
    t.equal((r.returncode, r.stdout.split(":")[0:2]), (0, ["s", " down"]), "stop")
    t.equal(c.ctl("ready").returncode, 1, "not ready while it is down")
    t.equal(c.ctl("start", "s").returncode, 0, "start")
    second = c.service("s")["pid"]
    t.equal(c.ctl("restart", "s").returncode, 0, "restart")
    third = c.service("s")["pid"]
    t.equal(len({first, second, third}), 3, "processes")
    main = c.service("m")["pid"]
    t.equal(c.ctl("restart", "m").returncode, 0, "the main service can be restarted")
    assert c.service("m")["pid"] != main
    t.equal(c.service("s")["pid"], third, "and nobody else was")
    t.equal(c.service("s")["restarts"], 0, "asked for: no failure")
    c.ends()


def test_stopping_main_ends_the_container(t):
    c = running(t, TWO)
    c.ctl("stop", "m")
    t.equal(c.wait(), 0, "exit code")


def test_failed_service_can_be_started_again(t):
    """A service that gave up ends the container; a task that is done can be run again."""
    c = running(t, "[container]\nmain = m\n[service m]\ncommand = sleep 1000\n[task w]\ncommand = sh -c 'echo x >>{dir}/runs'\n")
    r = c.ctl("start", "w")
    t.equal(r.returncode, 0, r.stderr)
    civitest.wait_for("the second run", lambda: open(t.path("runs")).read() == "x\nx\n")
    c.ends()


def test_reload_signal(t):
    c = running(t, """
[container]
main = m
[service m]
loop = trap "echo again >>{dir}/got" HUP
reload_signal = HUP
[service s]
command = sleep 1000
""")
    t.equal(c.ctl("reload", "m").returncode, 0, "reload m")
    civitest.wait_for("the signal", lambda: os.path.exists(t.path("got")))
    r = c.ctl("reload", "s")
    t.equal((r.returncode, r.stderr), (78, "civinit: error: s has no reload_signal\n"), "reload s")
    c.ends()


def test_reload_touches_only_what_changed(t):
    base = TWO + "env.A = 1\n[service gone]\ncommand = sleep 1000\n[service same]\ncommand = sleep 1000\nafter = s\n"
    c = running(t, base)
    before = {s["name"]: s for s in c.status()["services"]}
    c.write(TWO + "env.A = 2\n[service same]\ncommand = sleep 1000\nafter = s\nstop_timeout = 5s\n[service new]\ncommand = sleep 1000\n")
    r = c.ctl("reload")
    t.equal((r.returncode, r.stdout), (0, "1 added, 1 changed, 1 removed\n"), "reload")
    c.wait_container("ready")
    c.wait_state("new", "ready")
    after = {s["name"]: s for s in c.status()["services"]}
    t.equal(sorted(after), ["m", "new", "s", "same"], "services")
    for name in ("m", "same"):
        t.equal(after[name]["pid"], before[name]["pid"], name)
    assert after["s"]["pid"] != before["s"]["pid"]
    t.contains(c.log(), "service s: stopping: its configuration has changed")
    t.contains(c.log(), "service gone: stopping: removed from the configuration")
    # Once more, without a change; then with an error: all stays as it is.
    r = c.ctl("reload")
    t.equal(r.stdout, "0 added, 0 changed, 0 removed\n", "nothing changed")
    c.write(TWO + "env.A = 2\nretart = never\n[service s2]\nafter = nobody\n")
    r = c.ctl("reload")
    t.equal(r.returncode, 78, "an error")
    t.contains(r.stderr, 'retart: unknown key; did you mean "restart"?')
    t.contains(r.stderr, "and more")
    t.equal({s["name"]: s["pid"] for s in c.status()["services"]}, {n: s["pid"] for n, s in after.items()}, "processes")
    c.write(TWO.replace("main = m", "main = s"))
    r = c.ctl("reload")
    t.equal(r.returncode, 78, "main cannot change")
    t.contains(r.stderr, "cannot change while the container runs")
    c.ends()


def test_reload_changes_how_a_service_is_watched(t):
    """Checks that are new, others or gone: by the next one, and without a restart."""
    c = running(t, TWO)
    pids = {s["name"]: s["pid"] for s in c.status()["services"]}

    def reload(more):
        c.write(TWO + more)
        t.equal(c.ctl("reload").stdout, "0 added, 0 changed, 0 removed\n", more)
    reload("health = exec:false\nhealth_interval = 20ms\nhealth_failures = 10000\n")
    c.wait_log("service s: health check exec:false failed")
    reload("health = exec:sh -c 'echo another; exit 1'\nhealth_interval = 20ms\nhealth_failures = 10000\n")
    c.wait_log(r"failed \(\d+ of 10000\): another")
    reload("health = exec:true\nhealth_interval = 1h\n")
    reload("health = exec:touch {dir}/asked\nhealth_interval = 20ms\n")
    civitest.wait_for("the shorter interval to count", lambda: os.path.exists(t.path("asked")))
    reload("")
    t.equal((c.service("s")["unhealthy"], c.service("s")["reason"]), (0, ""), "not watched any more")
    reload("health = exec:true\nhealth_interval = 20ms\n")
    reload("")
    for i in range(5):  # the next round of checks would have come by now
        t.equal(c.ctl("restart", "m").returncode, 0, "restart")
    t.lacks(c.log(), "(null)")
    t.equal(c.service("s")["pid"], pids["s"], "the process")
    c.ends()


def test_reload_corrects_a_check_that_is_waited_for(t):
    wrong = "[service m]\ncommand = sleep 1000\nready_timeout = 100s\nready = "
    c = Container(t, wrong + "unix:{dir}/nowhere\n")
    pid = c.wait_state("m", "starting")["pid"]
    c.write(wrong + "unix:{dir}/run-role/control\n")
    t.equal(c.ctl("reload").returncode, 0, "reload")
    t.equal(c.wait_state("m", "ready")["pid"], pid, "the process")
    c.ends()


def test_reload_refuses_what_cannot_change(t):
    base = "[container]\nmain = m\nlog = text\n[service m]\ncommand = sleep 1000\n[forward]\nto = 127.0.0.1:9\n"
    c = running(t, base)
    for changed in (base.replace(":9", ":10"), base + "stdout = no\n", base.replace("= text", "= json"), base.partition("[forward]")[0]):
        c.write(changed)
        r = c.ctl("reload")
        t.equal(r.returncode, 78, changed)
        t.contains(r.stderr, "main, run_dir, log and [forward] cannot change while the container runs")
    c.write(base.replace("main = m", "main = m\ngrace = 40s"))
    t.equal(c.ctl("reload").returncode, 0, "grace can")
    c.ends()


def test_reload_of_a_stubborn_service(t):
    """It stops by its old definition; meanwhile a second reload is refused; then the new one starts."""
    ini = TWO + "[service d]\nloop = trap \"while [ ! -e {dir}/go ]; do sleep 0.02; done; exit\" TERM\nstop_timeout = 20s\n"
    c = running(t, ini)
    c.write(ini.replace("[service d]", "[service d]\nenv.A = 1"))
    t.equal(c.ctl("reload").returncode, 0, "reload")
    c.wait_state("d", "stopping")
    t.equal(c.ctl("reload").returncode, 75, "a second one meanwhile")
    t.write("go", "")
    c.wait_state("d", "ready")
    t.equal(c.ctl("reload").returncode, 0, "then again")
    c.ends()


def test_only_root_and_its_own_user(t):
    os.chmod(t.dir, 0o755)
    c = running(t, TWO)
    t.equal(stat.S_IMODE(os.stat(os.path.join(c.run_dir, "control")).st_mode), 0o600, "mode")
    os.chmod(os.path.join(c.run_dir, "control"), 0o666)  # the peer's credentials count, not the file's
    r = t.run("setpriv", "--reuid=33", "--regid=33", "--clear-groups", CIVINIT, "restart", "--run-dir", c.run_dir, "s")
    t.equal(r.returncode, 77, "www-data may not")
    t.contains(r.stderr, "only root and the user of civinit may control it")
    r = t.run("setpriv", "--reuid=33", "--regid=33", "--clear-groups", CIVINIT, "ready", "--run-dir", c.run_dir)
    t.equal(r.returncode, 0, "but a probe of its may ask")
    r = t.run("setpriv", "--reuid=33", "--regid=33", "--clear-groups", CIVINIT, "live", "--run-dir", c.run_dir)
    t.equal(r.returncode, 0, "live")
    t.equal(c.service("s")["restarts"], 0, "nothing happened")
    c.ends()


def test_status(t):
    c = running(t, TWO)
    text = c.ctl("status").stdout
    t.match(text, r"^role: ready, up \S+, main service m$")
    t.match(text, r"^SERVICE\s+STATE\s+PID\s+SINCE\s+RESTARTS\s+CPU\s+MEMORY\s+REMARK$")
    t.match(text, r"^s\s+ready\s+\d+\s+\S+\s+0\s")
    t.lacks(c.ctl("status", "m").stdout, "\ns ")
    j = json.loads(c.ctl("status", "--json").stdout)
    t.equal((j["role"], j["state"], j["main"], j["pid"], len(j["services"])), ("role", "ready", "m", 1, 2), "json")
    w = t.start(CIVINIT, "status", "--watch", "--json", env={"CIVINIT_RUN_DIR": c.run_dir})
    w.wait_text('"state":"ready"')
    c.ctl("stop", "s")
    w.wait_text('"name":"s","kind":"service","state":"down"')
    c.ends()
    t.equal(w.wait(), 0, "the watcher ends with the container")
    t.lacks(w.text(), "error")
    t.equal(os.listdir(c.run_dir), [], "nothing is left in the run dir")
    r = c.ctl("status")
    t.equal(r.returncode, 69, "no civinit")
    t.match(r.stderr, "^civinit: error: no civinit runs here: .* does not exist$")
    t.equal((c.ctl("ready").returncode, c.ctl("live").returncode), (1, 1), "probes")


def test_two_of_them(t):
    c = running(t, TWO)
    r = c.ctl("role")
    t.equal(r.returncode, 75, "a second one with the same run dir")
    t.contains(r.stderr, "another civinit runs with")
    t.equal(c.status()["state"], "ready", "the first is unharmed")
    c.ends()


def test_bad_input_one_clear_message(t):
    """(arguments, configuration or None, exit code, what the last line says)"""
    ok = "[service m]\ncommand = true\n"
    rows = [
        ([], ok, 64, "which role?"),
        (["--bogus"], ok, 64, 'unknown argument "--bogus"'),
        (["--versio"], ok, 64, 'did you mean "--version"?'),
        (["statsu"], ok, 64, 'did you mean "status"?'),
        (["rol"], ok, 64, 'did you mean "role"?'),
        (["role", "--onse"], ok, 64, 'did you mean "--once"?'),
        (["role", "--config"], ok, 64, "--config needs a value"),
        (["role", "--config", "/nonexistent.ini"], ok, 78, "/nonexistent.ini: No such file"),
        (["status", "--jsno"], ok, 64, 'did you mean "--json"?'),
        (["stop"], ok, 64, "stop: which service?"),
        (["check", "--prnit"], ok, 64, 'did you mean "--print"?'),
        (["role"], ok + "restrat = always\n", 78, "1 problem in the configuration"),
        (["role"], "[service m]\ncommand = /nonexistent/program\n", 78, "cannot start: exec /nonexistent/program: No such file or directory"),
        (["role"], "[service m]\ncommand = nonexistent-program\n", 78, "exec nonexistent-program: not found in PATH"),
        (["role"], "[service m]\ncommand = /etc/passwd\n", 77, "exec /etc/passwd: Permission denied"),
        (["role"], ok + "cwd = /nonexistent\n", 78, "cwd /nonexistent: No such file or directory"),
        (["role"], ok + "rlimit.nofile = 1:99999999999\n", 77, "rlimit.nofile: Operation not permitted"),
        (["role"], ok + "env.X = ${NOT_SET_HERE}\n", 78, "1 problem in the configuration"),
        (["role"], ok + "env.X = ${file:/run/secrets/none}\n", 78, "1 problem in the configuration"),
        (["role"], "rubbish\n", 78, "1 problem in the configuration"),
    ]
    for words, ini, code, want in rows:
        t.write("etc/role.ini", ini)
        r = t.run(CIVINIT, *words, env={"CIVINIT_CONFIG_DIR": t.path("etc"), "CIVINIT_RUN_DIR": t.path("run"), "NOT_SET_HERE": None})
        t.equal(r.returncode, code, f"{words} {ini!r}: {r.stderr}")
        t.contains(r.stderr.splitlines()[-1], want)


def test_check(t):
    t.write("secret", "s3cr3t\n")
    t.write("etc/web.ini", f"[service m]\ncommand = true\nenv.P = ${{file:{t.path('secret')}}}\nenv.Q = ${{X:-y}}\n[backup]\nfiles = /a\n")
    t.write("etc/web.d/10-more.ini", "[service m]\nnice = 3\n")
    t.write("etc/cron.ini", "[service m]\ncommnd = true\nready = maybe\n[task t]\nafter = nobody\ncommand = 'x\n[jobs]\ntimezon = UTC\n")
    run = lambda *w: t.run(CIVINIT, "check", *w, env={"CIVINIT_CONFIG_DIR": t.path("etc"), "X": None})  # noqa: E731
    r = run("web")
    t.equal((r.returncode, r.stderr), (0, ""), "web")
    r = run("--print", "web")
    t.equal(r.returncode, 0, "print")
    t.contains(r.stdout, "env.P = ********\nenv.Q = y\n")
    t.contains(r.stdout, "nice = 3\n")
    t.lacks(r.stdout + r.stderr, "s3cr3t")
    r = run()
    t.equal(r.returncode, 78, "all")
    lines = re.findall(r"cron.ini:(\d+):", r.stderr)
    t.equal(sorted(set(map(int, lines))), [1, 2, 3, 5, 6, 8], f"every problem: {r.stderr}")
    t.contains(r.stdout, "web.ini: ok")


def test_check_finds_what_else_is_wrong(t):
    """(what stands in the service, what is said of it)"""
    rows = [("user = nobdy\ngroup = nogrup\n", ['user: the user "nobdy"', 'group: the group "nogrup"']),
            ("ready = tcp:localhost\nhealth = tcp::80\n", ['ready: "tcp:localhost" names no port', 'health: "tcp::80" names no port']),
            ("ready = mysql\n", ["ready: mysql: [database] has neither host nor socket"]),
            ("[status]\nlisten = 9l80\n", ['listen: "9l80" is not HOST:PORT']),
            ("[forward]\nto = 127.0.0.1:x\n", ["civinit-forward: error: "]),
            ("stop_timeout = graze\n", ['stop_timeout: "graze" is not a duration'])]
    for text, wants in rows:
        r = t.run(CIVINIT, "check", t.write("x.ini", "[service m]\ncommand = true\n" + text))
        t.equal(r.returncode, 78, text)
        for want in wants:
            t.contains(r.stderr, want)
    r = t.run(CIVINIT, "check", t.write("x.ini", ""))
    t.match(r.stderr, r"x.ini:1: \[container\] main: there is no service and no task to run")
    r = t.run(CIVINIT, "check", t.write("x.ini", "[service m]\ncommand = nonexistent-program x\n"))
    t.equal(r.returncode, 0, "a program may come with a volume")
    t.match(r.stderr, r'^civinit: warning: .*x.ini:2: \[service m\] command: there is no program "nonexistent-program" here$')
    r = t.run(CIVINIT, "check", t.write("x.ini", "[service m]\ncommand = true\n[job a]\nschedule = 61 * * * *\ncommand = true\n"))
    t.equal(r.returncode, 78, "a schedule")
    t.match(r.stderr, r'x.ini:4: \[job a\] schedule: minute "61"')


def test_the_drop_in_of_the_variants(t):
    """What config/kubernetes shows does what it says: the upgrade comes before PHP and Apache."""
    config = os.path.join(civitest.ROOT, "config")
    text = open(os.path.join(config, "kubernetes/variants/web-drop-in.yaml")).read().split("  50-site.ini: |\n")[1]
    t.write("etc/web.ini", open(os.path.join(config, "web.ini")).read())
    t.write("etc/web.d/50-site.ini", textwrap.dedent(text))
    r = t.run(CIVINIT, "check", "web", env={"CIVINIT_CONFIG_DIR": t.path("etc")})
    t.equal(r.returncode, 0, r.stderr)
    t.match(r.stdout, r"in this order: mysqlrouter database .*upgrade php apache$")


def test_grace_may_be_any(t):
    """The roles of config/ follow GRACE, which administrators set."""
    for grace in ("3s", "30s", "10m"):
        r = t.run(CIVINIT, "check", env={"CIVINIT_CONFIG_DIR": os.path.join(civitest.ROOT, "config"), "GRACE": grace, "DRAIN": "1s"})
        t.equal(r.returncode, 0, f"{grace}: {r.stderr}")


def test_check_while_an_image_is_built(t):
    """What only the container will know is told, and no error; everything else is."""
    text = """
[container]
main = ${MAIN}
grace = ${GRACE}
[database]
password_file = ${SECRETS}/password
[service m]
command = sh -c '${WHAT}; ${WHICH:-exit}'
user = ${WHO}
nice = ${NICE}
after = n ${LAST}
ready = ${READY}
env.P = ${file:/nonexistent/${DIR}/password}
env.Q = ${file:/nonexistent/q}
env_file = /nonexistent/env
[service n]
command = true
enabled = ${N}
"""
    unset = {k: None for k in ("MAIN", "GRACE", "SECRETS", "WHAT", "WHICH", "WHO", "NICE", "LAST", "READY", "DIR", "N")}
    path = t.write("x.ini", text)
    t.equal(t.run(CIVINIT, "check", path, env=unset).returncode, 78, "without the option")
    r = t.run(CIVINIT, "check", "--build", path, env=unset)
    t.equal((r.returncode, r.stdout), (0, f"{path}: ok: 2 services and tasks, in this order: n m\n"), r.stderr)
    lines = re.findall(r"^civinit: notice: .*x.ini:(\d+): .*: to be seen in the container$", r.stderr, re.M)
    t.equal(sorted(map(int, lines)), [3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 18], r.stderr)
    t.contains(r.stderr, "the environment variable WHAT is not set")
    t.contains(r.stderr, "/nonexistent/q: No such file or directory")
    t.match(t.run(CIVINIT, "check", "--build", "--print", path, env=unset).stdout, r"^env.P = \$\{file:/nonexistent/\$\{DIR\}/password\}$")
    t.write("x.ini", text + "nice = 77\nenv.X = ${X:=1}${X\nenv.Y = ${NONE}${Y\n")
    r = t.run(CIVINIT, "check", "--build", path, env=unset)
    t.equal(r.returncode, 78, "errors are errors")
    t.equal(sorted(map(int, re.findall(r"^civinit: error: .*x.ini:(\d+): ", r.stderr, re.M))), [19, 20, 21], r.stderr)


def test_help_and_version(t):
    for words in (["--help"], ["status", "--help"], ["web", "--help"]):
        r = t.run(CIVINIT, *words)
        t.equal(r.returncode, 0, words)
        t.contains(r.stdout, "usage: civinit ROLE")
    t.match(t.run(CIVINIT, "--version").stdout, r"^civinit \d+\.\d+")


def test_a_reload_and_requests_allocate_nothing(t):
    """Process 1 allocates nothing while it runs; a reload gives back what it took."""
    c = running(t, TWO + "backoff = 1ms\n")

    def heap():
        return int(ask(c.run_dir, b"heap\n").split()[1])
    first = heap()
    for i in range(200):
        t.contains(ask(c.run_dir, b"ping\n").decode(), "ok")
        ask(c.run_dir, b"stop nobody\n")
    for i in range(20):
        t.equal(c.ctl("restart", "s").returncode, 0, "restart")
    t.equal(heap(), first, "bytes in use")
    for i in range(10):
        t.equal(c.ctl("reload").returncode, 0, "reload")
    second = heap()
    for i in range(20):
        t.equal(c.ctl("reload").returncode, 0, "reload")
    t.equal(heap(), second, "bytes in use after reloads")
    c.ends()


if __name__ == "__main__":
    pid1.need_root()
    civitest.main(globals())
