#!/usr/bin/env python3
"""config/kubernetes/make-instance: an instance's own names, and its own minutes."""
import collections
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import civitest

MAKE = os.path.join(civitest.ROOT, "config/kubernetes/make-instance")


def make(*arguments):
    return subprocess.run([MAKE, *arguments], capture_output=True, text=True, timeout=60)


def schedules(text):
    """{name of the CronJob: its schedule}"""
    return dict(re.findall(r'^kind: CronJob\nmetadata:\n  name: (\S+)\nspec:\n  schedule: "(.*)"$', text, re.M))


def test_an_instance_has_its_own_names(t):
    done = make("parish1")
    t.equal((done.returncode, done.stderr), (0, ""))
    t.lacks(done.stdout, "demo")
    t.equal(sorted(re.findall(r"^kind: (\S+)", done.stdout, re.M)),
            ["ConfigMap", "CronJob", "CronJob", "Deployment", "PersistentVolumeClaim", "PersistentVolumeClaim", "Service"])
    t.equal(done.stdout, make("parish1").stdout, "the same every time")
    one = make("parish1", "cron.yaml").stdout
    t.contains(done.stdout, one)
    t.equal(list(schedules(one)), ["parish1-cron"])
    for wrong in ((), ("Parish",), ("a b",), ("-a",), ("",), ("a/../b",)):
        t.equal(make(*wrong).returncode, 64, str(wrong))


def test_many_instances_do_not_begin_together(t):
    """A day of 240 instances' CronJobs, by the scheduler's own code."""
    n = 240
    jobs = [x for i in range(n) for x in schedules(make(f"parish{i}", "cron.yaml", "backup.yaml").stdout).items()]
    t.equal(len(jobs), 2 * n)
    config = t.write("cron.ini", "".join(f"[job {name}]\nschedule = {when}\ncommand = true\n" for name, when in jobs))
    done = t.run(civitest.program("civinit-jobs"), "--config", config, "next", "--from", "2026-03-02T00:00:00Z", "--until", "2026-03-03T00:00:00Z",
                 env={"TZ": "UTC"})
    t.equal((done.returncode, done.stderr), (0, ""))
    begun = {kind: collections.Counter(re.findall(rf"^(\S+:\d\d):00\S*\s+\S+-{kind}$", done.stdout, re.M)) for kind in ("cron", "backup")}
    t.equal(sum(begun["cron"].values()), n * 96, done.stdout[:500])
    t.equal(sum(begun["backup"].values()), n)
    # Spread evenly it would be 16 a minute, and one.
    assert max(begun["cron"].values()) < 2 * n / 15, begun["cron"].most_common(3)
    assert max(begun["backup"].values()) <= 6, begun["backup"].most_common(3)
    t.equal({when[11:13] for when in begun["backup"]}, {"01", "02", "03", "04"})


civitest.main(globals())
