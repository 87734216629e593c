#!/usr/bin/python3
"""Who a service runs as and what it finds in its environment: users, groups, env_file, limits."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import civitest  # noqa: E402
import pid1  # noqa: E402
from pid1 import Container  # noqa: E402

PASSWD = """root:x:0:0:root:/root:/bin/sh
site:x:2001:2001::/srv/site:/bin/sh
same:x:2001:2002::/srv/same:/bin/sh
"""
GROUP = """root:x:0:
site:x:2001:
files:x:3001:site,other
mail:x:3002:other,site
none:x:3003:other
sites:x:3004:sitex
"""
SHOW = """
import json, os, sys
print("SHOWN", json.dumps([os.getuid(), os.getgid(), sorted(os.getgroups()), os.environ.get("USER"), os.environ.get("HOME")]))
"""


def shown(t, c):
    t.equal(c.wait(), 0, c.log())
    return json.loads(t.match(c.log(), r"^SHOWN (.*)$")[1])


def test_users_and_groups(t):
    """(user, group) → what the process is; by a passwd and a group file of our own."""
    t.write("passwd", PASSWD)
    t.write("group", GROUP)
    t.write("show.py", SHOW)
    os.chmod(t.dir, 0o755)
    with_files = ("sh", "-c", f"mount --bind {t.path('passwd')} /etc/passwd && mount --bind {t.path('group')} /etc/group && exec \"$@\"", "sh")
    rows = [(("site", None), [2001, 2001, [3001, 3002], "site", "/srv/site"]),
            (("2001", None), [2001, 2001, [3001, 3002], "site", "/srv/site"]),
            (("site", "none"), [2001, 3003, [3001, 3002], "site", "/srv/site"]),
            (("same", None), [2001, 2002, [], "same", "/srv/same"]),
            (("2001", "77"), [2001, 77, [3001, 3002], "site", "/srv/site"]),
            (("4321", None), [4321, 4321, [], None, "/"]),
            (("4321", "files"), [4321, 3001, [], None, "/"]),
            ((None, "mail"), [0, 3002, [], "root", "/root"])]
    for n, ((user, group), want) in enumerate(rows):
        ini = "[service m]\ncommand = /usr/bin/python3 {dir}/show.py\n" + (f"user = {user}\n" if user else "") + (f"group = {group}\n" if group else "")
        t.equal(shown(t, Container(t, ini, wrap=with_files, name=f"r{n}")), want, f"{user}:{group}")
    for line in ("user = sit", "user = 4294967295", "group = filse", "user = -1"):
        c = Container(t, f"[service m]\ncommand = true\n{line}\n", wrap=with_files, name="bad")
        t.equal(c.wait(), 78, line)
    t.contains(c.log(), "is not in /etc/passwd")


def test_env_file(t):
    """Lines as files of other tools have them; what is no line of that kind is an error with its place."""
    t.write("env", "\n# comment\nA=1\n export B=two words \n\tC='q # r'\nD=\"x y\"\r\nE=\nF=a=b\nG=$HOME ${A}\nH='a\"b'\nA=last\nI=it's\n")
    c = Container(t, """
[container]
env.A = container
env.Z = container
[service m]
command = /usr/bin/python3 -c 'import json, os; print("SHOWN", json.dumps([os.environ.get(x) for x in "ABCDEFGHIZ"]))'
env_file = {dir}/env
env.B = service
""")
    t.equal(shown(t, c), ["last", "service", "q # r", "x y", "", "a=b", "$HOME ${A}", "a\"b", "it's", "container"], "values")
    for text, place in (("A=1\nB = 2\n", 2), ("A\n", 1), ("\n\n1A=x\n", 3), ("=x\n", 1), ("A=1\n[service]\n", 2)):
        t.write("env", text)
        c = Container(t, "[service m]\ncommand = true\nenv_file = {dir}/env\n", name="bad")
        t.equal(c.wait(), 78, text)
        t.contains(c.log(), f"env:{place}: not NAME=value")


def test_every_limit(t):
    names = {"as": "address space", "core": "core file size", "cpu": "cpu time", "data": "data size", "fsize": "file size", "locks": "file locks",
             "memlock": "locked memory", "msgqueue": "msgqueue size", "nice": "nice priority", "nofile": "open files", "nproc": "processes",
             "rss": "resident set", "rtprio": "realtime priority", "rttime": "realtime timeout", "sigpending": "pending signals", "stack": "stack size"}
    less = {"nice": 0, "rtprio": 0, "memlock": 65536, "msgqueue": 4096}  # none above what everybody has
    limits = {n: less.get(n, 1000 if n in ("nofile", "nproc", "locks", "sigpending", "cpu") else 512 << 20) for n in names}
    c = Container(t, "[service m]\ncommand = cat /proc/self/limits\n" + "".join(f"rlimit.{n} = {v}\n" for n, v in limits.items()))
    t.equal(c.wait(), 0, c.log())
    for n, kernel in names.items():
        t.match(c.log(), rf"^Max {kernel}\s+{limits[n]}\s+{limits[n]}\s")
    c = Container(t, "[service m]\ncommand = true\nrlimit.core = 0\nrlimit.nofile = 1:99999999999\n", name="over")
    t.equal(c.wait(), 77, c.log())
    t.contains(c.log(), "cannot start: rlimit.nofile: Operation not permitted")


if __name__ == "__main__":
    pid1.need_root()
    civitest.main(globals())
