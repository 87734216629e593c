"""OpenStack Swift with its S3 interface, in one process on loopback: account, container, object and
proxy server. It checks signatures (s3api) against tempauth's users and knows multipart uploads.

    python3 s3server.py FOLDER PORT USER SECRET [CERTIFICATE KEY]

The access key is "test:USER". Prints "ready" once all sockets listen. FOLDER must be on a file system with user.* attributes.
"""
import os
import sys

import eventlet
eventlet.monkey_patch()
import eventlet.wsgi  # noqa: E402

folder, port, user, secret = sys.argv[1:5]
tls = sys.argv[5:7]
os.makedirs(f"{folder}/devices/d1", exist_ok=True)
with open(f"{folder}/swift.conf", "w") as f:
    f.write("[swift-hash]\nswift_hash_path_suffix = test\nswift_hash_path_prefix = test\n"
            "[storage-policy:0]\nname = one\ndefault = yes\n")

import swift.common.utils  # noqa: E402
swift.common.utils.SWIFT_CONF_FILE = f"{folder}/swift.conf"
import swift.common.storage_policy  # noqa: E402
for module in (swift.common.utils, swift.common.storage_policy):
    if hasattr(module, "SWIFT_CONF_FILE"):
        module.SWIFT_CONF_FILE = f"{folder}/swift.conf"
swift.common.utils.validate_hash_conf()
swift.common.storage_policy.reload_storage_policies()

from swift.account.server import AccountController  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402
from swift.container.server import ContainerController  # noqa: E402
from swift.obj.server import ObjectController  # noqa: E402

conf = {"devices": f"{folder}/devices", "mount_check": "false", "swift_dir": folder, "recon_cache_path": folder,
        "disable_fallocate": "true", "fsync_dir": "no", "log_level": "WARNING"}
sockets = {kind: eventlet.listen(("127.0.0.1", 0)) for kind in ("account", "container", "object")}
for kind, sock in sockets.items():
    builder = RingBuilder(1, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": sock.getsockname()[1],
                     "replication_ip": "127.0.0.1", "replication_port": sock.getsockname()[1],
                     "device": "d1", "weight": 1, "meta": ""})
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{folder}/{kind}.ring.gz")
with open(f"{folder}/proxy.conf", "w") as f:
    f.write(f"""[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
error_suppression_limit = 1000000
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
location = us-east-1
[filter:slo]
use = egg:swift#slo
[filter:tempauth]
use = egg:swift#tempauth
user_test_{user} = {secret} .admin
""")


class Quiet:
    def write(self, text):
        pass

    def flush(self):
        pass


proxy = loadapp(f"{folder}/proxy.conf")
listener = eventlet.listen(("127.0.0.1", int(port)))
if tls:
    listener = eventlet.wrap_ssl(listener, certfile=tls[0], keyfile=tls[1], server_side=True)
apps = {"account": AccountController(conf), "container": ContainerController(conf), "object": ObjectController(conf)}
for kind, app in apps.items():
    eventlet.spawn(eventlet.wsgi.server, sockets[kind], app, log=Quiet(), log_output=False)
print("ready", flush=True)
eventlet.wsgi.server(listener, proxy, log=Quiet(), log_output=False)
