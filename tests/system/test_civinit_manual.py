#!/usr/bin/python3
"""The manual names every section and key that the schema has, and no other."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402


def schema():
    text = open(os.path.join(civitest.ROOT, "supervisor/conf/schema.c")).read()
    return set(re.findall(r'\{"(\w+)", "([\w.]+)", SCHEMA_', text))


def manual():
    """{(section, key)} of civinit.ini(5)."""
    found, sections = set(), []
    for line in open(os.path.join(civitest.ROOT, "supervisor/civinit.ini.5")):
        m = re.match(r"\.Ss (.*\[.*)", line)
        if m:
            sections = re.findall(r"\[(\w+)", m[1])
        elif line.startswith(".Ss"):
            sections = []
        m = re.match(r"\.It Bq (\w+)$", line)
        if m:
            sections = [m[1]]
        if sections and re.match(r"\.(It )?Cm ", line):
            words = re.sub(r"\.(It )?Cm |Ns Ar \S+|Cm ", "", line).split()
            for w in words:
                for s in sections:
                    if re.fullmatch(r"[a-z_]+\.?", w):
                        found.add((s, w))
    return found


def test_every_key_is_in_the_manual(t):
    known, told = schema(), manual()
    t.equal(len(known) > 100, True, "keys of the schema")
    t.equal(sorted(known - told), [], "keys that civinit.ini(5) does not name")


if __name__ == "__main__":
    civitest.main(globals())
