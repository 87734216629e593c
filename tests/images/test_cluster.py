#!/usr/bin/env python3
"""An InnoDB Cluster behind mysqlrouter: config/kubernetes/variants/innodb-cluster.yaml, bootstrapped
against MySQL's own Group Replication. mysqlsh, which makes such clusters, is not in Debian: METADATA
has what mysqlrouter asks of the schema that it makes."""
import json
import os
import secrets
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import dbserver
import pods
import tls
from dbserver import sql

PAGE = """<?php
mysqli_report(MYSQLI_REPORT_OFF);
$db = @new mysqli('localhost', getenv('DATABASE_USER'), trim(file_get_contents('/etc/secrets/database/password')), 'civicrm');
if ($db->connect_errno) { http_response_code(503); exit("$db->connect_errno $db->connect_error"); }
if (!$db->query("INSERT INTO visit VALUES ()")) { http_response_code(500); exit($db->error); }
$tls = $db->query("SHOW STATUS LIKE 'Ssl_version'")->fetch_row()[1];
echo $db->query('SELECT @@report_host')->fetch_row()[0], ", $tls";
"""
GROUP = "5ca1ab1e-0000-4000-8000-000000000001"
CLUSTER = "5ca1ab1e-0000-4000-8000-000000000002"
# Version 2.2 of the metadata, as far as mysqlrouter 9.7 looks at it.
METADATA = f"""
CREATE DATABASE mysql_innodb_cluster_metadata;
USE mysql_innodb_cluster_metadata;
CREATE VIEW schema_version AS SELECT 2 AS major, 2 AS minor, 0 AS patch;
CREATE TABLE v2_gr_clusters (cluster_id CHAR(36) PRIMARY KEY, cluster_name VARCHAR(63), cluster_type VARCHAR(2),
    primary_mode VARCHAR(2), group_name CHAR(36), clusterset_id CHAR(36), attributes JSON, options JSON, router_options JSON);
INSERT INTO v2_gr_clusters VALUES ('{CLUSTER}', 'test', 'gr', 'pm', '{GROUP}', NULL, '{{}}', '{{}}', '{{}}');
CREATE TABLE v2_instances (instance_id INT PRIMARY KEY, cluster_id CHAR(36), label VARCHAR(99), mysql_server_uuid CHAR(36),
    address VARCHAR(99), endpoint VARCHAR(99), xendpoint VARCHAR(99), attributes JSON, instance_type VARCHAR(20));
CREATE VIEW v2_this_instance AS SELECT cluster_id, instance_id, instance_type, cluster_name, cluster_type
    FROM v2_instances JOIN v2_gr_clusters USING (cluster_id)
    WHERE mysql_server_uuid = (SELECT variable_value FROM performance_schema.global_variables WHERE variable_name = 'server_uuid');
CREATE TABLE v2_cs_members (id INT PRIMARY KEY, clusterset_id CHAR(36), cluster_id CHAR(36), cluster_name VARCHAR(63),
    member_role VARCHAR(20), master_cluster_id CHAR(36), invalidated INT);
CREATE TABLE v2_routers (router_id INT AUTO_INCREMENT PRIMARY KEY, router_name VARCHAR(99), product_name VARCHAR(99),
    address VARCHAR(99), version VARCHAR(12), last_check_in TIMESTAMP NULL, attributes JSON, options JSON, cluster_id CHAR(36),
    clusterset_id CHAR(36), UNIQUE (address, router_name));
CREATE VIEW v2_router_options AS SELECT router_id, '{{}}' AS router_options FROM v2_routers;
"""
# What cluster.setupRouterAccount() of mysqlsh grants, on what is there.
ROUTER = ("GRANT SELECT, EXECUTE ON mysql_innodb_cluster_metadata.* TO router@'%'",
          "GRANT INSERT, UPDATE, DELETE ON mysql_innodb_cluster_metadata.v2_routers TO router@'%'",
          "GRANT UPDATE ON mysql_innodb_cluster_metadata.v2_gr_clusters TO router@'%'",
          "GRANT SELECT ON performance_schema.replication_group_members TO router@'%'",
          "GRANT SELECT ON performance_schema.replication_group_member_stats TO router@'%'",
          "GRANT SELECT ON performance_schema.global_variables TO router@'%'")
shared = {}


class Cluster:
    """Members of one group, started one after the other: the first is the primary."""

    def __init__(self, instance, size):
        self.i = instance
        self.password = secrets.token_hex(16)
        self.names = [f"{instance.name}-db{n}" for n in range(size)]
        self.servers = dbserver.Servers(instance)
        self.secrets = instance.secrets
        self.members = [self.run(n) for n in range(size)]
        for n, member in enumerate(self.members):
            self.begin(member, first=n == 0)
        self.fill()

    def run(self, n):
        return self.servers.start(
            f"db{n}", n + 1, "--skip-name-resolve=OFF", "--performance-schema=ON", "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON", "--plugin-load-add=group_replication.so",
            f"--loose-group-replication-group-name={GROUP}", "--loose-group-replication-start-on-boot=OFF",
            f"--loose-group-replication-local-address={self.names[n]}:33061",
            f"--loose-group-replication-group-seeds={','.join(name + ':33061' for name in self.names)}",
            "--loose-group-replication-ssl-mode=REQUIRED", "--loose-group-replication-recovery-use-ssl=ON",
            # A member that gets no processor for a while stays one.
            "--loose-group-replication-member-expel-timeout=300")

    def begin(self, member, first):
        self.servers.wait(member)
        sql(member, f"""SET sql_log_bin = 0;
            CREATE USER repl@'%' IDENTIFIED BY '{self.password}' REQUIRE SSL;
            GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO repl@'%';
            SET sql_log_bin = 1; RESET BINARY LOGS AND GTIDS;
            SET GLOBAL group_replication_bootstrap_group = {int(first)}""")
        self.join(member)
        sql(member, "SET GLOBAL group_replication_bootstrap_group = 0")

    def join(self, member):
        sql(member, f"START GROUP_REPLICATION USER='repl', PASSWORD='{self.password}'")
        pods.wait_for(f"{member.name} to be in the group", lambda: sql(
            member, "SELECT member_state FROM performance_schema.replication_group_members WHERE member_id = @@server_uuid") == "ONLINE")

    def fill(self):
        uuids = [sql(m, "SELECT @@server_uuid") for m in self.members]
        rows = ", ".join(f"({n}, '{CLUSTER}', '{name}:3306', '{uuid}', '{name}:3306', '{name}:3306', NULL, "
                         "'{\"instance_type\": \"group-member\"}', 'group-member')"
                         for n, (name, uuid) in enumerate(zip(self.names, uuids)))
        sql(self.members[0], f"""{METADATA} INSERT INTO v2_instances VALUES {rows};
            CREATE USER router@'%' IDENTIFIED BY '{self.password}' REQUIRE SSL; {'; '.join(ROUTER)};
            CREATE DATABASE civicrm; CREATE TABLE civicrm.visit (id INT AUTO_INCREMENT PRIMARY KEY);
            CREATE USER civicrm@'%' IDENTIFIED BY '{self.i.secret("password")}' REQUIRE SSL;
            GRANT ALL ON civicrm.* TO civicrm@'%'""")

    def web(self, servers, settings=()):
        """The web pod with the files of the variant; its router is told of these servers."""
        text = self.i.spec("variants/innodb-cluster.yaml", [("replace this", self.password)])
        self.i.secrets = f"{self.secrets}---\n{text}"
        mounts = [("          volumeMounts:\n", "          volumeMounts:\n"
                   "            - {name: cluster, mountPath: /etc/civinit/web.d, readOnly: true}\n"
                   "            - {name: router, mountPath: /etc/secrets/router, readOnly: true}\n"),
                  ("      volumes:\n", "      volumes:\n"
                   f"        - {{name: cluster, configMap: {{name: {self.i.name}-cluster}}}}\n"
                   f"        - {{name: router, secret: {{secretName: {self.i.name}-router}}}}\n")]
        return self.i.play("web.yaml", mounts, [("DRAIN", "0s"), ("WORKERS", "3"), ("DATABASE_SERVERS", servers), *settings])


def the_cluster():
    if "cluster" not in shared:
        pods.need()
        if "instance" in shared:
            raise pods.Failed("there is no cluster, see above")
        shared["instance"] = pods.Instance()
        shared["instance"].site({"index.php": PAGE})
        shared["cluster"] = Cluster(shared["instance"], 2)
    return shared["cluster"]


def page(cluster, web, member):
    """Waits until the page has written to the database and says that this member took it."""
    last = [None]

    def look():
        last[0] = pods.get(cluster.i.address(web), "/index.php")
        return last[0] == (200, f"{member}, TLSv1.3")
    try:
        pods.wait_for(f"the page, from {member}", look)
    except pods.Late as e:
        raise pods.Late(f"{e}; last: {last[0]}\n{web.logs()[-3000:]}") from None


def shared_end():
    if "instance" in shared:
        shared["instance"].close()


def test_bootstrap(t):
    """One of the servers that are named does not exist, the other is no primary: the router finds the
    primary all the same. What it made is nobody else's, and the password is in none of it."""
    c = the_cluster()
    shared["web"] = web = c.web(f"nowhere.invalid:3306,{c.names[1]}:3306", [("ROUTER_DIR", "/var/lib/civinit/router")])
    pods.ready(web)
    page(c, web, c.names[0])
    t.equal(web.exec("stat", "-c", "%a", "/var/lib/civinit/router").stdout, "700\n")
    t.equal(web.exec("grep", "-r", c.password, "/var/lib/civinit", "/run").returncode, 1, "the password in a file")
    t.lacks(web.logs(), c.password)
    t.match(web.exec("cat", "/var/lib/civinit/router/mysqlrouter.conf").stdout, r"(?s)^server_ssl_mode=REQUIRED\nserver_ssl_verify=VERIFY_IDENTITY$.*^ssl_mode=VERIFY_IDENTITY$")
    t.equal(sql(c.members[0], "SELECT address, router_name FROM mysql_innodb_cluster_metadata.v2_routers"), f"{c.i.name}\tcivicrm")


def test_other_certificate(t):
    """A CA that has not signed the members' certificates: no password is sent, the container says why."""
    c = the_cluster()
    wrong = tls.Authority(t.path("ca"))
    with open(wrong.ca) as f:
        web = c.i.run("web", ca=f.read(), settings=[("DATABASE_TIMEOUT", "1s"), ("DATABASE_SERVERS", f"{c.names[0]}:3306")],
                      options=["--volume", f"{t.write('password', c.password)}:/etc/secrets/router/password:ro"],
                      drop_in="[task cluster]\ncommand = civinit-probe --wait 1s --timeout 1m exec -- mysqlrouter-bootstrap\n"
                              "[service mysqlrouter]\nafter = cluster\n")
    t.equal(web.wait_end(), 69, "exit code")
    t.match(web.logs(), r"mysqlrouter-bootstrap ended by exit code 1: \S+: Error: .*certificate verify failed")


def test_failover(t):
    """The primary leaves: what is written goes to the other member. In the pod nothing is restarted."""
    c = the_cluster()
    web = shared["web"]
    # It is still there when the router looks again: one that vanishes keeps mysqlrouter 9.7.4 waiting.
    sql(c.members[0], "STOP GROUP_REPLICATION")
    page(c, web, c.names[1])
    pods.podman("stop", "--time", "100", c.names[0])
    services = json.loads(web.exec("civinit", "status", "--json", check=True).stdout)["services"]
    t.equal({s["name"]: s["restarts"] for s in services if s["restarts"]}, {}, "restarts")


def test_restart(t):
    """The first member is back and the second leaves: none of the servers that the container was told of
    is there when it starts again. What it made before still tells where the cluster is."""
    c = the_cluster()
    web = shared["web"]
    pods.podman("start", c.names[0])
    c.servers.wait(c.members[0])
    c.join(c.members[0])
    pods.podman("pod", "stop", "--time", "100", web.inspect(".Pod"))
    pods.podman("stop", "--time", "100", c.names[1])
    pods.podman("pod", "start", web.inspect(".Pod"))
    pods.ready(web)
    page(c, web, c.names[0])


def test_new_pod(t):
    """A pod that knows nothing yet takes the entry of the one before it."""
    c = the_cluster()
    web = c.web(",".join(f"{name}:3306" for name in reversed(c.names)))
    pods.ready(web)
    page(c, web, c.names[0])
    t.equal(sql(c.members[0], "SELECT COUNT(*) FROM mysql_innodb_cluster_metadata.v2_routers"), "1", "routers that are listed")


if __name__ == "__main__":
    pods.main(globals(), "web", "mysql")
