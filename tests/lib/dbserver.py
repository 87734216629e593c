"""MySQL servers as single containers beside an instance's pods, each with a certificate for its own
name from one CA, which the instance is made to trust: what config/kubernetes/mysql.yaml has no room for."""
import os

import pods
import tls


class Servers:
    def __init__(self, instance):
        self.i = instance
        self.authority = tls.Authority(os.path.join(instance.dir, "ca"))
        with open(self.authority.ca) as f:
            self.ca = f.read()
        own, new = (text.strip().replace("\n", "\n    ") for text in (instance.ca(), self.ca))
        instance.secrets = instance.secrets.replace(own, new)

    def start(self, word, number, *options):
        """A server called INSTANCE-WORD that writes a binary log; its container."""
        name = f"{self.i.name}-{word}"
        cert, key = self.authority.server(name, name=name)
        mounts = [o for file, inside in ((cert, "tls.crt"), (key, "tls.key"), (self.authority.ca, "ca.crt"))
                  for o in ("--volume", f"{file}:/etc/mysql/tls/{inside}:ro")]
        self.i.extra.append(name)
        pods.podman("run", "--detach", "--name", name, "--network", self.i.name, *mounts, pods.image("mysql"),
                    f"--server-id={number}", f"--report-host={name}", "--log-bin=binlog", *options)
        return pods.Container(name)

    def wait(self, server):
        try:
            pods.wait_for(f"{server.name} to take connections", lambda: sql(server, "SELECT 1", check=False) == "1")
        except pods.Late as e:
            raise pods.Late(f"{e}\n{server.logs()[-3000:]}") from None


def sql(server, text, check=True):
    """Runs SQL as root, over the local socket; its output."""
    return server.exec("mysql", "--user=root", "--skip-column-names", "--batch", "--execute", text, check=check).stdout.strip()
