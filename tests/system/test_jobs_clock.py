#!/usr/bin/env python3
"""civinit-jobs while the clock is set, in a kernel of its own (User Mode Linux, an ordinary process), so that this machine's
clock stays as it is."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest

KERNEL = shutil.which("linux.uml")

# In that kernel, as its process 1. `runs N M`: until the two jobs have run so often.
INIT = """#!/bin/sh
mount -t proc proc /proc && echo up || exit
runs() {
    until [ "$(cat {dir}/plain.log 2>/dev/null | wc -l) $(cat {dir}/once.log 2>/dev/null | wc -l)" = "$1 $2" ]; do sleep 0.1; done
    echo "runs $1 $2"
}
sets=0
set_to() { # and it is noticed
    date -s "$1" >/dev/null
    sets=$((sets + 1))
    until [ "$(grep -c 'the clock was set by' {dir}/log)" = $sets ]; do sleep 0.1; done
    echo "set to $1"
}
date -s '2030-01-01 12:30:00'
{jobs} run --config {dir}/cron.ini >{dir}/log 2>&1 &
until grep -q '2 jobs' {dir}/log; do sleep 0.1; done
set_to '2030-01-01 12:59:58'    # forward, less than three hours: what comes due runs
runs 1 1
set_to '2030-01-01 12:30:00'    # back, less than three hours: 13:00 comes again and is no new one
set_to '2030-01-01 13:59:58'
runs 2 2
set_to '2030-01-03 14:30:00'    # two days on: 48 times have passed, one is made up for
runs 2 3
set_to '2029-06-01 09:59:58'    # far back: the clock had been wrong
runs 3 4
kill $! && wait $!
echo "ended with $?"
echo o >/proc/sysrq-trigger
sleep 1000
"""


def test_a_clock_that_is_set(t):
    if not KERNEL:
        raise civitest.Skip("no linux.uml (Debian's package user-mode-linux)")
    if civitest.SAN:
        raise civitest.Skip("the sanitizers need more memory than this kernel has")
    t.write("cron.ini", f"""[container]
instance = parish
[jobs]
state_dir = {t.path("state")}
timezone = UTC
[job plain]
schedule = 0 * * * *
shell = date >>{t.path("plain.log")}
[job once]
schedule = 0 * * * *
catch_up = once
shell = date >>{t.path("once.log")}
""")
    init = t.write("init", INIT.replace("{dir}", t.dir).replace("{jobs}", civitest.program("civinit-jobs")), 0o755)
    kernel = t.start(KERNEL, "rootfstype=hostfs", "rootflags=/", "rw", "mem=128M", "con=null", "con0=fd:0,fd:1", "quiet", f"init={init}",
                     env={"TMPDIR": t.dir})
    try:
        kernel.wait_text("^up", 60)
    except civitest.Late as e:
        raise civitest.Skip(f"User Mode Linux does not start here: {str(e)[-300:]}") from None
    kernel.wait(150)
    with open(t.path("log"), errors="replace") as f:
        log = f.read()
    t.contains(kernel.text(), "ended with 0")
    t.equal(log.count("job plain: its time passed more than 3 h ago; not run"), 1, log)
    t.lacks(log, "job once: its time passed")


civitest.main(globals())
