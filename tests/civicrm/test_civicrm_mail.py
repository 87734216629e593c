#!/usr/bin/env python3
"""Mail of a real CiviCRM under civinit-jobs: whatever happens, nobody is lost and nobody gets a mail twice."""
import collections
import json
import os
import re
import signal
import socket
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib")]
import civisite
import civitest
from civisite import GONE, PEOPLE, SEND, Site, asking_civicrm, everybody_once, fresh, nothing_held, shared_end  # noqa: F401

civisite.isolate()


def test_mailing_arrives(t):
    site, config = fresh(t)
    done = site.once(t, config)
    t.equal(done.returncode, 0, done.stderr)
    everybody_once(t, site)
    t.equal(site.mailboxes()["people"], PEOPLE)
    t.match(done.stderr, r"job=civicrm .*outcome=success .*cpu_ms=[1-9]\d+ rss_kb=[1-9]\d{4,} ")


def test_bounce_is_fetched(t):
    site = Site.shared()
    site.reset()
    site.submit("gone")
    site.jobs(SEND)
    config = site.config(t)
    t.equal(site.once(t, config).returncode, 0)
    t.equal(site.mailboxes()["bounces"], GONE)
    site.jobs("Fetch Bounces")
    t.equal(site.once(t, config).returncode, 0)
    t.equal(site.marks(), (GONE, GONE))
    t.equal(site.number("SELECT COUNT(*) FROM civicrm_email WHERE on_hold = 1"), GONE)
    t.equal(site.mailboxes()["bounces"], 0, "left in the inbox")


def outage(t, said, begin, end, check=False):
    """While SMTP is out of order: two runs, in which everything else runs, and no recipient is marked."""
    site, config = fresh(t, "Test ok")
    if check:
        config = asking_civicrm(t, site, config)
    begin(site)
    for _ in range(2):
        done = site.once(t, config)
        assert done.returncode != 0, done.stdout + done.stderr
        t.match(done.stderr, rf'outcome=failure .*reason="mail waits: smtp: .*({said})')
        t.match(done.stdout + done.stderr, 'civicrm_job="Test ok" outcome=success')
        t.lacks(done.stdout + done.stderr, f'civicrm_job="{SEND}"')
        t.lacks(done.stdout + done.stderr, "smtp: smtp:")
        t.equal((site.marks(), site.sink.accepted), ((0, 0), []), "recipients marked, mailed")
        site.sql("UPDATE civicrm_job SET last_run = NULL")
        backlog = t.run(civitest.program("civinit-jobs-helper"), "backlog", "--config", config)
        t.equal(json.loads(backlog.stdout)["mail"]["pending"], PEOPLE, "people who wait")
    end(site)
    done = site.once(t, config)
    t.equal(done.returncode, 0, done.stderr)
    everybody_once(t, site)
    nothing_held(t, site)


def mode(word):
    def change(site):
        site.sink.mode = word
        site.sink.unhang.set() if word == "ok" else site.sink.unhang.clear()
    return change


def test_smtp_refuses_the_login(t):
    outage(t, "535 5.7.8", mode("refuse-login"), mode("ok"))


def test_smtp_is_down(t):
    outage(t, "refused", lambda site: site.sink.close(), lambda site: (site.sink.open(), mode("ok")(site)))


def test_smtp_hangs(t):
    outage(t, "timed out", mode("hang"), mode("ok"))


def test_smtp_fails_behind_the_login(t):
    """It lets everybody in, then drops the connection, or defers: CiviCRM keeps them queued, and we say so."""
    for word, said in (("drop", "Failed to write to socket|job log|failed"), ("defer", "never ended")):
        site, config = fresh(t)
        site.sink.mode = word
        done = site.once(t, config)
        assert done.returncode != 0, f"{word}: {done.stdout}{done.stderr}"
        t.match(done.stderr, rf'outcome=(failure|incomplete) .*reason=".*({said})')
        t.equal((site.marks(), site.sink.accepted), ((0, 0), []), word)
        site.sink.mode = "ok"
        t.equal(site.once(t, config).returncode, 0)
        everybody_once(t, site)


def test_gate_of_civicrm_itself(t):
    """No secret of the mail server in our configuration."""
    outage(t, "authentication failure .*535", mode("refuse-login"), mode("ok"), check=True)
    outage(t, "Failed to connect", lambda site: site.sink.close(), lambda site: (site.sink.open(), mode("ok")(site)), check=True)


def test_imap_refuses_the_login(t):
    """Bounces wait; the mailing goes out."""
    site, config = fresh(t, "Fetch Bounces")
    with open(t.path("imap-password"), "w") as f:
        f.write("wrong")
    done = site.once(t, config)
    assert done.returncode != 0
    t.match(done.stderr, r'outcome=failure .*reason="mail waits: imap: ')
    t.lacks(done.stdout + done.stderr, 'civicrm_job="Fetch Bounces"')
    with open(t.path("imap-password"), "w") as f:
        f.write("imappass")
    done = site.once(t, config)
    t.equal(done.returncode, 0, done.stderr)
    t.match(done.stdout + done.stderr, 'civicrm_job="Fetch Bounces" outcome=success')
    everybody_once(t, site)


def test_imap_is_down_or_hangs(t):
    """Bounces wait, for one reason; the mailing goes out; the rest when it is back."""
    site, config = fresh(t, "Fetch Bounces")
    site.end_imap()
    done = site.once(t, config)
    t.equal(done.returncode, 69, done.stdout + done.stderr)
    t.match(done.stderr, r'outcome=failure .*reason="mail waits: imap: refused')
    everybody_once(t, site)
    site.sql("UPDATE civicrm_job SET last_run = NULL")
    with socket.create_server(("127.0.0.1", 143), backlog=8):  # the kernel answers, nobody speaks
        done = site.once(t, config)
    t.match(done.stderr, r'outcome=failure .*reason="mail waits: imap: timed out')
    t.lacks(done.stdout + done.stderr, 'civicrm_job="Fetch Bounces"')
    site.imap()
    site.sql("UPDATE civicrm_job SET last_run = NULL")
    done = site.once(t, config)
    t.equal(done.returncode, 0, done.stderr)
    t.match(done.stdout + done.stderr, 'civicrm_job="Fetch Bounces" outcome=success')
    everybody_once(t, site)


def test_paused_by_an_administrator(t):
    """What an administrator paused stays so, through an outage and a drain."""
    site, config = fresh(t)
    site.sql("UPDATE civicrm_mailing_job SET status = 'Paused'")
    site.sink.mode = "refuse-login"
    site.once(t, config)
    site.sink.mode = "ok"
    t.equal(site.once(t, config).returncode, 0)
    t.equal((site.statuses(), site.sink.accepted), (["Paused"], []))
    site.sql("UPDATE civicrm_mailing_job SET status = 'Scheduled'")
    t.equal(site.once(t, config).returncode, 0)
    everybody_once(t, site)


def paused_by_us(site):
    return site.number("SELECT COUNT(*) FROM civicrm_mailing_job WHERE status = 'Paused'") > 0


def stopped_at(t, site, config, moment, stop):
    """Starts a pod and calls stop(pod) while the mail server keeps it waiting in its moment'th mail."""
    site.sink.pause_at(moment)
    pod = t.start(civitest.program("civinit-jobs"), "--config", config, "run", "--once")
    civitest.wait_for(f"mail {moment}", site.sink.paused.is_set)
    stop(pod)
    site.sink.go()
    return pod


def test_sigterm_at_20_moments(t):
    """The pod ends with nobody mailed twice, the next one sends the rest."""
    for moment in range(1, 21):
        site, config = fresh(t, name=f"pod{moment}.ini")

        def term(pod):
            pod.signal(signal.SIGTERM)
            civitest.wait_for("the mailing to be paused", lambda: paused_by_us(site), every=0.05)
        pod = stopped_at(t, site, config, moment, term)
        pod.wait(120)
        t.lacks(pod.text(), "killed at the end")
        t.equal(len(site.sink.accepted), (moment + 9) // 10 * 10, f"mailed by the first pod, moment {moment}")
        t.equal(site.marks(), (len(site.sink.accepted), 0), f"moment {moment}")
        nothing_held(t, site)
        done = site.once(t, config)
        t.equal(done.returncode, 0, done.stderr)
        everybody_once(t, site)


test_sigterm_at_20_moments.limit = 600


def kill_all(t, site):
    """The pod is gone at once: civinit-jobs, its runner, its helpers and PHP."""
    def kill(pod):
        tree, todo = [], [pod.pid]
        while todo:
            pid = todo.pop()
            tree.append(pid)
            try:
                for thread in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{thread}/children") as f:
                        todo += [int(x) for x in f.read().split()]
            except OSError:
                pass
        for pid in tree:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        civitest.wait_for("the tree to be gone", lambda: not any(civitest.alive(p) for p in tree))
        civitest.wait_for("the server to see it", lambda: not site.db.sql(
            "SELECT 1 FROM information_schema.processlist WHERE user = 'site'"), every=0.05)
    return kill


def killed_at_20_moments(t, interval):
    """How often a mail went out twice, over all moments; nobody may be lost."""
    twice = {}
    for moment in range(1, 21):
        site, config = fresh(t, name=f"pod{moment}.ini")
        site.sql(f"DELETE FROM civicrm_setting WHERE name = 'civimail_sync_interval'; INSERT INTO civicrm_setting (name, value, domain_id, is_domain) "
                 f"VALUES ('civimail_sync_interval', 'i:{interval};', 1, 1)")
        pod = stopped_at(t, site, config, moment, kill_all(t, site))
        pod.wait()
        site.jobs(SEND)
        done = site.once(t, config)
        t.equal(done.returncode, 0, done.stderr)
        count = collections.Counter(site.sink.accepted)
        t.equal(len(count), PEOPLE, f"people mailed, moment {moment}")
        t.equal(site.statuses(), ["Complete", "Complete"])
        twice[moment] = sum(n - 1 for n in count.values())
    return twice


def test_sigkill_at_20_moments(t):
    """With civimail_sync_interval = 1, CiviCRM writes down each mail at once: at most the one on its way is repeated."""
    twice = killed_at_20_moments(t, 1)
    print(f"mailed twice after SIGKILL, by moment: {twice}")
    t.equal({m: n for m, n in twice.items() if n > 1}, {})


test_sigkill_at_20_moments.limit = 600


def test_sigkill_while_paused(t):
    """A pod that is killed while it drains, its state folder gone with it, leaves rows paused: the next start puts them back."""
    site, config = fresh(t)

    def term_then_kill(pod):
        pod.signal(signal.SIGTERM)
        civitest.wait_for("the mailing to be paused", lambda: paused_by_us(site), every=0.05)
        kill_all(t, site)(pod)
    pod = stopped_at(t, site, config, 12, term_then_kill)
    pod.wait()
    assert paused_by_us(site)
    site.jobs(SEND)
    done = site.once(t, site.config(t, name="next.ini"))
    t.equal(done.returncode, 0, done.stderr)
    t.equal(len(set(site.sink.accepted)), PEOPLE)
    t.equal(site.statuses(), ["Complete", "Complete"])
    nothing_held(t, site)


def test_two_pods_one_mailing(t):
    site, config = fresh(t)
    other = site.config(t, name="other.ini")

    def meet(pod):
        done = site.once(t, other)
        t.equal(done.returncode, 75, done.stderr)
    pod = stopped_at(t, site, config, 5, meet)
    t.equal(pod.wait(), 0)
    everybody_once(t, site)


def test_loop_sends_by_itself(t):
    """`civinit-jobs run`, until SIGTERM."""
    site, config = fresh(t)
    with open(config) as f:
        every = t.write("loop.ini", f.read().replace("@every 5m", "@every 1s"))
    pod = t.start(civitest.program("civinit-jobs"), "--config", every, "run")
    civitest.wait_for("the mailing to be complete", lambda: site.statuses() == ["Complete", "Complete"], every=0.1)
    pod.signal(signal.SIGTERM)
    t.equal(pod.wait(), 0)
    everybody_once(t, site)


def test_gate_by_hand(t):
    site = Site.shared()
    site.reset()
    config = site.config(t)
    helper = civitest.program("civinit-jobs-helper")
    for kind in ("smtp", "imap", "mail"):
        done = t.run(helper, "gate", kind, "--config", config)
        t.equal((done.returncode, done.stderr), (0, ""), kind)
    site.sink.mode = "refuse-login"
    done = t.run(helper, "gate", "mail", "--config", config)
    t.equal(done.returncode, 69)
    t.match(done.stderr, "535 5.7.8")
    assert not re.search("mailerpass|imappass", done.stderr), done.stderr


civitest.main(globals())
