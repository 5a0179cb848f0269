// ioredis listens: channels and patterns, in the order in which they were published, and again after its connections were cut off.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test from "node:test";
import assert from "node:assert/strict";
import Redis from "ioredis";

const BINARY = resolve(import.meta.dirname, "../..", process.env.SHARDIS ?? "target/debug/shardis");
const PATIENCE_MS = 60_000;

// Below the ports that the kernel gives to connections: one of those may be taken again before a server has it.
const [FIRST_PORT, PORT_COUNT] = [20_000, 12_000];
let nextPort = (process.pid * 37) % PORT_COUNT;

/** One that nobody listens on at the moment, and that no other test here has been given. */
async function freePort() {
    for (let tries = 0; tries < PORT_COUNT; tries++) {
        const port = FIRST_PORT + (nextPort++ % PORT_COUNT);
        const listener = createServer();
        const isFree = new Promise((resolve) => listener.on("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true)));
        if (await isFree) {
            listener.close();
            await once(listener, "close");
            return port;
        }
    }
    throw new Error("the loopback interface has no free ports");
}

/** Runs `body` with the port of a server of four shards, which ends with it. */
async function withServer(body) {
    const directory = mkdtempSync(join(tmpdir(), "shardis-node-"));
    const port = await freePort();
    const options = ["--shards", "4", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", directory];
    const server = spawn(BINARY, options.map(String), { stdio: "ignore" });
    const clients = [];
    // The default waits longer and longer between its attempts to come back.
    const connect = (more = {}) => {
        const client = new Redis(port, "127.0.0.1", { retryStrategy: () => 20, maxRetriesPerRequest: null, ...more });
        client.on("error", () => {});
        clients.push(client);
        return client;
    };
    try {
        await within("the server answers", connect().ping());
        await body(connect);
    } finally {
        clients.forEach((client) => client.disconnect());
        server.kill("SIGKILL");
        rmSync(directory, { recursive: true, force: true });
    }
}

/** What never comes is a failure. */
function within(what, promise) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`it never came to pass: ${what}`)), PATIENCE_MS);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function eventually(what, holds) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await holds())) {
        assert.ok(Date.now() < deadline, `it never came to pass: ${what}`);
        await new Promise((done) => setTimeout(done, 10));
    }
}

test("all that is published is heard, in its order", async () => {
    await withServer(async (connect) => {
        const subscriber = connect();
        const heard = [];
        subscriber.on("message", (channel, message) => heard.push([channel, message]));
        subscriber.on("pmessage", (pattern, channel, message) => heard.push([pattern, channel, message]));
        assert.equal(await subscriber.subscribe("news", "other"), 2);
        assert.equal(await subscriber.psubscribe("room:*"), 3);
        const publisher = connect();
        const expected = [];
        for (let number = 0; number < 100; number++) {
            const text = String(number);
            const isNews = number % 2 === 0;
            assert.equal(await publisher.publish(isNews ? "news" : "room:1", text), 1);
            expected.push(isNews ? ["news", text] : ["room:*", "room:1", text]);
        }
        await eventually("all are heard", () => heard.length >= expected.length);
        assert.deepEqual(heard, expected);
        await subscriber.unsubscribe("news");
        assert.equal(await publisher.publish("news", "late"), 0);
    });
});

test("it listens again when its connection was cut off", async () => {
    await withServer(async (connect) => {
        const subscriber = connect();
        const heard = [];
        subscriber.on("message", (_, message) => heard.push(message));
        subscriber.on("pmessage", (_pattern, _channel, message) => heard.push(message));
        await subscriber.subscribe("news");
        await subscriber.psubscribe("n?ws");
        const publisher = connect();
        for (let round = 0; round < 3; round++) {
            await eventually("it listens", async () => (await publisher.publish("news", `round ${round}`)) === 2);
            await eventually("it hears", () => heard.at(-1) === `round ${round}`);
            assert.equal(await publisher.client("KILL", "TYPE", "pubsub"), 1);
        }
    });
});

test("keyspace events and a monitor", async () => {
    await withServer(async (connect) => {
        const client = connect();
        await client.config("SET", "notify-keyspace-events", "KEA");
        const subscriber = connect();
        const heard = [];
        subscriber.on("pmessage", (_, channel, message) => heard.push([channel, message]));
        await subscriber.psubscribe("__key*__:*");
        const monitor = await connect().monitor();
        const seen = [];
        monitor.on("monitor", (_, words) => seen.push(words));
        await client.multi().set("k", "v").del("k").exec();
        await eventually("all is seen", () => seen.some((words) => words[0] === "exec") && heard.length >= 4);
        assert.deepEqual(heard, [
            ["__keyspace@0__:k", "set"],
            ["__keyevent@0__:set", "k"],
            ["__keyspace@0__:k", "del"],
            ["__keyevent@0__:del", "k"],
        ]);
        const own = seen.filter((words) => ["multi", "set", "del", "exec"].includes(words[0]));
        assert.deepEqual(own, [["multi"], ["set", "k", "v"], ["del", "k"], ["exec"]]);
        monitor.disconnect();
    });
});
