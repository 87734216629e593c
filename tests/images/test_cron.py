#!/usr/bin/env python3
"""The cron role in pods: once, as a loop, inside the web pod."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import pods

DATABASE = """<?php
$db = new mysqli('localhost', getenv('DATABASE_USER'), trim(file_get_contents('/etc/secrets/database/password')), 'civicrm');
"""
SITE = {
    # A row per run.
    "note.php": DATABASE + "$db->query(\"INSERT INTO runs VALUES ('{$argv[1]}')\"); echo \"noted {$argv[1]}\\n\";",
    # Says that it has begun, ends when it may.
    "wait.php": """<?php
touch(__DIR__ . "/state/{$argv[1]}.begun");
while (!file_exists(__DIR__ . "/state/{$argv[1]}.go")) { usleep(10000); clearstatcache(); }
echo "waited\\n";
""",
    "state/.keep": "",
}
shared = {}


def the_instance():
    if "instance" not in shared:
        pods.need()
        shared["instance"] = i = pods.Instance()
        i.site(SITE)
        os.chmod(os.path.join(i.volume("site"), "state"), 0o1777)
        shared["db"] = i.mysql()
        i.sql(shared["db"], "CREATE TABLE civicrm.runs (name TEXT)")
    return shared["instance"]


def shared_end():
    if "instance" in shared:
        shared["instance"].close()


def jobs(text):
    """A drop-in: these jobs instead of CiviCRM's."""
    return "[job civicrm]\nenabled = no\n" + text


def runs(i, name):
    return int(i.sql(shared["db"], f"SELECT COUNT(*) FROM civicrm.runs WHERE name = '{name}'").stdout)


def state(i, name):
    return os.path.join(i.volume("site"), "state", name)


def cron(i, text, *words, **more):
    """A cron container with the site and these jobs."""
    return i.run("cron", "cron", *words, options=["--volume", f"{i.name}-site:/var/www/html"], drop_in=jobs(text), **more)


def test_once(t):
    """The CronJob's pod: runs every job, and ends with 0, mysqlrouter with it."""
    i = the_instance()
    pod = i.play("cron.yaml", settings=[("LOG_FORMAT", "text")],
                 drop_in=("cron", jobs("[job one]\ncommand = php note.php once-one\ncwd = /var/www/html\n"
                                       "[job two]\nshell = php note.php once-two && echo $CIVINIT_JOB\ncwd = /var/www/html\n")))
    t.equal(pod.wait_end(), 0, f"exit code; {pod.logs()[-3000:]}")
    t.equal((runs(i, "once-one"), runs(i, "once-two")), (1, 1), "rows")
    t.contains(pod.logs(), "noted once-one")
    t.lacks(pod.logs(), i.secret("password"))


def test_once_failed(t):
    """A job that fails: the others run, and the container ends with its code."""
    i = the_instance()
    c = cron(i, "[job bad]\nshell = echo broken; exit 3\n[job good]\ncommand = php /var/www/html/note.php good\n", "--once")
    t.equal(c.wait_end(), 3, f"exit code; {c.logs()[-3000:]}")
    t.equal(runs(i, "good"), 1, "rows")
    t.match(c.logs(), r"bad.*(failure|failed)")


def test_no_database(t):
    i = the_instance()
    c = cron(i, "[job one]\ncommand = php /var/www/html/note.php never\n", "--once",
             settings=[("DATABASE_SERVERS", "nowhere.invalid:3306"), ("DATABASE_TIMEOUT", "2s")])
    t.equal(c.wait_end(), 69, f"exit code; {c.logs()[-3000:]}")
    t.equal(runs(i, "never"), 0, "rows")


def test_one_pod_at_a_time(t):
    """A second pod finds the lock taken, says so and ends with 75."""
    i = the_instance()
    first = cron(i, "[job slow]\ncommand = php /var/www/html/wait.php lock\n", "--once")
    pods.wait_for("the first pod's job", lambda: os.path.exists(state(i, "lock.begun")))
    second = cron(i, "[job slow]\ncommand = php /var/www/html/note.php second\n", "--once")
    t.equal(second.wait_end(), 75, f"exit code; {second.logs()[-3000:]}")
    t.equal(runs(i, "second"), 0, "rows")
    t.match(second.logs(), r"lock")
    with open(state(i, "lock.go"), "w"):
        pass
    t.equal(first.wait_end(), 0, f"exit code; {first.logs()[-3000:]}")


def test_stop_lets_a_job_end(t):
    """The loop: SIGTERM while a job runs; the job ends, nothing new starts, and the code is 0."""
    i = the_instance()
    c = cron(i, "[job slow]\nschedule = @start\ncommand = php /var/www/html/wait.php stop\n")
    pods.wait_for("the job", lambda: os.path.exists(state(i, "stop.begun")))
    stop = t.start(os.path.join(pods.ROOT, "tests/images/podman"), "stop", "--time", "100", c.name)
    c.wait_log(r"jobs.*stopping|stopping.*jobs")
    t.lacks(c.inspect(".State.Status"), "exited")
    with open(state(i, "stop.go"), "w"):
        pass
    t.equal(c.wait_end(), 0, f"exit code; {c.logs()[-3000:]}")
    t.contains(c.logs(), "waited")
    t.equal(stop.wait(120), 0, "podman stop")


def test_jobs_in_the_web_pod(t):
    """WEB_JOBS=yes: the web pod runs the jobs too."""
    i = the_instance()
    web = i.play("web.yaml", settings=[("WEB_JOBS", "yes"), ("DRAIN", "0s"), ("LOG_FORMAT", "text")],
                 drop_in=("cron", jobs("[job start]\nschedule = @start\ncommand = php /var/www/html/note.php web\n")))
    try:
        pods.wait_for("the job's row", lambda: runs(i, "web") == 1)
    except pods.Late as e:
        raise pods.Late(f"{e}\n{web.logs()[-4000:]}") from None


if __name__ == "__main__":
    pods.main(globals(), "cron", "web", "mysql")
