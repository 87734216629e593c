#!/usr/bin/env python3
"""Mail of a real CiviCRM by TLS: a server that cannot be trusted gets neither password nor mail, and nobody is lost for it."""
import os
import re
import shutil
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib")]
import civisite
import civitest
import tls
from civisite import GONE, SEND, Site, asking_civicrm, everybody_once, fresh, nothing_held, shared_end  # noqa: F401

civisite.isolate()

TRUST = {"SSL_CERT_FILE": "/tmp/test-ca.pem"}  # our authority, for PHP

# What is wrong with the server: what civinit-probe says of it, and what CiviCRM's own code.
FAULTS = {
    "foreign": ("unable to get local issuer certificate", "certificate verify failed"),
    "expired": ("certificate has expired", "certificate verify failed"),
    "other-host": ("no alternative certificate subject name matches target host name 'localhost'", "did not match expected CN=`localhost'"),
    "plain": ("Requested SSL level failed|STARTTLS|wrong version number", "wrong version number"),
}


class Certificates:
    def __init__(self, t, site):
        ours, foreign = tls.Authority(t.path("ca")), tls.Authority(t.path("foreign"), "foreign CA")
        self.ca = ours.ca
        self.of = {"good": ours.server("localhost"), "foreign": foreign.server("localhost"),
                   "expired": ours.server("localhost", name="expired", days=-1), "other-host": ours.server("elsewhere.test", name="other"),
                   "plain": ()}
        shutil.copy(ours.ca, site.root + "/tmp/test-ca.pem")


def trusting(t, config, certificates, **mail):
    """The configuration with these servers in [mail], and our authority for them."""
    with open(config) as f:
        text = f.read()
    for key, url in mail.items():
        text = re.sub(rf"^{key} = .*", f"{key} = {url}", text, flags=re.M)
    return t.write("tls.ini", text.replace("[mail]\n", f"[mail]\nca = {certificates.ca}\n"))


def waits(t, site, config, server, said, env=TRUST):
    """A run in which mail waits for the server, for one reason, and the other job runs."""
    done = site.once(t, config, env=env)
    text = done.stdout + done.stderr
    assert done.returncode != 0, text
    errors = [line for line in text.splitlines() if "error: " in line]
    t.equal(len(errors), 1, f"lines about it: {text}")
    t.match(errors[0], rf'outcome=failure .*reason="mail waits: {server}: .*({said})')
    t.lacks(errors[0], f"{server}: {server}:")
    t.match(text, 'civicrm_job="Test ok" outcome=success')
    for secret in ("mailerpass", "imappass"):
        t.lacks(text, secret)
    site.sql("UPDATE civicrm_job SET last_run = NULL")


def sent_by_tls(t, check, rows):
    """For each (our URL or None, CiviCRM's host and port, faults): held with each fault, then sent, once, encrypted."""
    for url, (host, port), faults in rows:
        site, config = fresh(t, "Test ok")
        certificates = Certificates(t, site)
        config = trusting(t, config, certificates, smtp=url)
        site.civicrm_mail(smtp=(host, port))
        if check:
            config = asking_civicrm(t, site, config)
        for fault in faults:
            site.sink.encrypt(*certificates.of[fault])
            waits(t, site, config, "smtp", FAULTS[fault][check])
            t.equal((site.marks(), site.sink.accepted), ((0, 0), []), f"{url}, {fault}: recipients marked, mailed")
        site.sink.encrypt(*certificates.of["good"])
        done = site.once(t, config, env=TRUST)
        t.equal(done.returncode, 0, done.stdout + done.stderr)
        everybody_once(t, site)
        nothing_held(t, site)
        t.equal(set(site.sink.ports), {(port, True)}, "ports of the mails, encrypted")
        shutil.rmtree(t.path("ca"))
        shutil.rmtree(t.path("foreign"))


def test_smtp_of_the_configuration(t):
    sent_by_tls(t, False, (("smtp://localhost:25", ("localhost", 25), FAULTS), ("smtps://localhost:465", ("ssl://localhost", 465), FAULTS)))


def test_smtp_of_civicrm_itself(t):
    """CiviCRM's code takes STARTTLS where the server offers it, and goes on in the clear where not: there is no telling it otherwise."""
    sent_by_tls(t, True, ((None, ("localhost", 25), [f for f in FAULTS if f != "plain"]), (None, ("ssl://localhost", 465), FAULTS)))


def test_smtp_of_both(t):
    """What neither sees alone: that CiviCRM would go on in the clear, and that PHP trusts others than we do."""
    site, config = fresh(t, "Test ok")
    certificates = Certificates(t, site)
    config = trusting(t, config, certificates, smtp="smtp://localhost:25")
    with open(config) as f:
        text = re.sub(r"^smtp_.*\n", "", f.read(), flags=re.M)  # no secret of the mail server
    config = asking_civicrm(t, site, t.write("no-secret.ini", text), beside=True)
    site.civicrm_mail(smtp=("localhost", 25))
    waits(t, site, config, "smtp", FAULTS["plain"][0])
    site.sink.encrypt(*certificates.of["good"])
    waits(t, site, config, "smtp", FAULTS["foreign"][1], env=None)
    t.equal((site.marks(), site.sink.accepted), ((0, 0), []), "recipients marked, mailed")
    done = site.once(t, config, env=TRUST)
    t.equal(done.returncode, 0, done.stdout + done.stderr)
    everybody_once(t, site)
    t.equal(set(site.sink.ports), {(25, True)})


def fetched_by_tls(t, check, urls):
    for url in urls:
        site = Site.shared()
        site.reset()
        site.submit("gone")
        site.jobs(SEND)
        config = site.config(t)
        t.equal(site.once(t, config).returncode, 0)
        certificates = Certificates(t, site)
        config = trusting(t, config, certificates, imap=url)
        site.civicrm_mail(imap=("localhost", True))
        if check:
            config = asking_civicrm(t, site, config)
        site.jobs("Fetch Bounces", "Test ok")
        for fault in FAULTS:
            site.imap(*certificates.of[fault])
            waits(t, site, config, "imap", FAULTS[fault][check])
            t.equal((site.marks(), site.mailboxes()["bounces"]), ((GONE, 0), GONE), f"{url}, {fault}: marked, in the mailbox")
        site.imap(*certificates.of["good"])
        done = site.once(t, config, env=TRUST)
        t.equal(done.returncode, 0, done.stdout + done.stderr)
        t.equal((site.marks(), site.mailboxes()["bounces"]), ((GONE, GONE), 0))
        shutil.rmtree(t.path("ca"))
        shutil.rmtree(t.path("foreign"))


def test_imap_of_the_configuration(t):
    fetched_by_tls(t, False, ("imap://localhost", "imaps://localhost"))


def test_imap_of_civicrm_itself(t):
    fetched_by_tls(t, True, (None,))


civitest.main(globals())
