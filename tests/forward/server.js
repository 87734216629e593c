// A forward server (Fluentd's own, of @fluent-org/logger) for the tests: prints "port N", then each
// record as one line of JSON. Its only argument is JSON: {host, port, key,
// users, cert, private, quiet}.
const fs = require("fs");
const path = require("path");
const modules = path.join(process.env.CIVINIT_NPM || "/var/cache/civinit-tests/npm", "node_modules");
const { FluentServer } = require(path.join(modules, "@fluent-org/logger"));

const options = JSON.parse(process.argv[2] || "{}");
const server = new FluentServer({
    listenOptions: { port: options.port || 0, host: options.host || "127.0.0.1" },
    security: options.key && {
        serverHostname: "collector.example",
        sharedKey: options.key,
        authorize: Boolean(options.users),
        userDict: options.users || {},
    },
    tlsOptions: options.cert && { cert: fs.readFileSync(options.cert), key: fs.readFileSync(options.private) },
});

// An end in the middle of its work, but never between a chunk's acknowledgement and its records: what
// was acknowledged was printed.
process.on("SIGTERM", () => process.exit(3));

// Written with one system call each time: what is printed was received, whenever this is killed.
let count = 0;
server.on("entry", (tag, time, record) => {
    count++;
    if (!options.quiet)
        fs.writeSync(1, JSON.stringify({ tag, seconds: time.epoch, nanoseconds: time.nano, record }) + "\n");
    else if (record.message === "the last")
        fs.writeSync(1, `received ${count}\n`);
});
server.listen().then(() => fs.writeSync(1, `port ${server.port}\n`));
