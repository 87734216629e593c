#!/usr/bin/env python3
"""What `make demo` shows, once podman is there: the specs of config/kubernetes, run and used."""
import http.client
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pods

PAGE = """<?php
$db = new mysqli('localhost', getenv('DATABASE_USER'), trim(file_get_contents('/etc/secrets/database/password')), 'civicrm');
$db->query('UPDATE visits SET n = n + 1');
printf("This page comes from PHP %s, visit %d comes from MySQL %s, by mysqlrouter's socket and then %s.\\n", PHP_VERSION,
    $db->query('SELECT n FROM visits')->fetch_row()[0], $db->query('SELECT VERSION()')->fetch_row()[0],
    $db->query("SHOW STATUS LIKE 'Ssl_version'")->fetch_row()[1]);
"""
JOB = """<?php
$db = new mysqli('localhost', getenv('DATABASE_USER'), trim(file_get_contents('/etc/secrets/database/password')), 'civicrm');
printf("job: there have been %d visits\\n", $db->query('SELECT n FROM visits')->fetch_row()[0]);
"""
JOBS = """[job civicrm]
enabled = no
[job visits]
schedule = @hourly
command = php /var/www/html/job.php
"""
started = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - started:3.0f} s] {text}", flush=True)


def show(text):
    print("\n".join("        " + line for line in text.rstrip().splitlines()), flush=True)


def get(address, path):
    c = http.client.HTTPConnection(address, 8080, timeout=30)
    try:
        c.request("GET", path)
        return c.getresponse().read().decode()
    finally:
        c.close()


def web_and_database(i):
    i.site({"index.php": PAGE, "job.php": JOB})
    say("The web pod starts, while there is no database yet.")
    web = i.play("web.yaml", settings=[("DRAIN", "1s"), ("LOG_FORMAT", "text")])
    pods.wait_for("civinit in the web pod", lambda: web.exec("civinit", "live").returncode == 0)
    show(f"civinit ready: exit {web.exec('civinit', 'ready').returncode} (0 would be: ready)")
    say("The database pod starts: MySQL 9.7 that takes TLS connections only.")
    db = i.mysql()
    i.sql(db, "CREATE TABLE civicrm.visits (n INT); INSERT INTO civicrm.visits VALUES (0)")
    pods.wait_for("the web pod to be ready", lambda: web.exec("civinit", "ready").returncode == 0)
    say("The web pod has noticed, and is ready. Its page:")
    show(get(i.address(web), "/"))
    say("civinit status in the web pod:")
    show(web.exec("civinit", "status").stdout)
    return web, db


def killed(i, web):
    say("mysqlrouter is killed with SIGKILL; civinit starts it again:")
    web.exec("sh", "-c", "for p in /proc/[0-9]*; do case $(cat $p/comm) in mysqlrouter) kill -9 ${p#/proc/};; esac; done")
    def page():
        text = get(i.address(web), "/")
        return text if "visit 2" in text else None
    show(pods.wait_for("the page again", page))


def jobs(i):
    say("The cron pod runs the jobs once, and ends when they have ended:")
    cron = i.play("cron.yaml", settings=[("LOG_FORMAT", "text")], drop_in=("cron", JOBS))
    code = cron.wait_end()
    show(cron.logs())
    show(f"exit {code}")
    return code


def backup(i, db):
    say("The backup pod writes databases and files into one archive, and proves it:")
    i.volume("backup")
    pod = i.play("backup.yaml", settings=[("LOG_FORMAT", "text")])
    code = pod.wait_end()
    show(pod.logs())
    show(f"exit {code}")
    if code:
        return code
    folder = i.volume("backup")
    archive = next(f for f in sorted(os.listdir(folder)) if f.endswith(".tar.gz"))
    say(f"{archive} is an ordinary tar.gz. Verified once more, by itself:")
    p = pods.podman("run", "--rm", "--network", "none", "--volume", f"{i.name}-backup:/backup", "--entrypoint", "civinit-backup",
                    pods.image("backup"), "verify", f"/backup/{archive}", check=False)
    show(p.stdout + p.stderr)
    show(f"exit {p.returncode}")
    return p.returncode


def main():
    why = pods.unusable()
    if why:
        sys.exit(f"demo: {why}")
    say("The images are built: the programs are compiled, Apache, PHP and MySQL come from Debian.")
    pods.build("mysql", "web", "cron", "backup", say=show)
    i = pods.Instance()
    try:
        web, db = web_and_database(i)
        killed(i, web)
        codes = [jobs(i), backup(i, db)]
        say("The web pod is asked to stop:")
        pods.podman("pod", "stop", "--time", "60", web.inspect(".Pod"))
        codes.append(web.wait_end())
        show("\n".join(web.logs().splitlines()[-6:]))
        show(f"exit {codes[-1]}")
    finally:
        say("Pods, volumes and network of the demo are removed (the images stay).")
        i.close()
    if any(codes):
        sys.exit("demo: something went wrong, see above")
    say("All of it worked.")


if __name__ == "__main__":
    main()
