// ioredis listens: channels and patterns, in the order in which they were published, and again after its connections were cut off.

import test from "node:test";
import assert from "node:assert/strict";
import { eventually, within, withServer } from "./support.mjs";

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
