// Servers for the tests of node's clients: each on its own port and in its own directory, ended with the test.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
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

/** Runs `body` with a server of four shards, which ends with it: what connects a client, and the port. */
export async function withServer(body) {
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
        await body(connect, port);
    } finally {
        clients.forEach((client) => client.disconnect());
        server.kill("SIGKILL");
        rmSync(directory, { recursive: true, force: true });
    }
}

/** What never comes is a failure. */
export function within(what, promise) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`it never came to pass: ${what}`)), PATIENCE_MS);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function eventually(what, holds) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await holds())) {
        assert.ok(Date.now() < deadline, `it never came to pass: ${what}`);
        await new Promise((done) => setTimeout(done, 10));
    }
}
