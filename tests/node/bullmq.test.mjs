// BullMQ, unmodified: its scripts declare some keys and touch others.

import { spawn } from "node:child_process";
import test from "node:test";
import assert from "node:assert/strict";
import { FlowProducer, Queue } from "bullmq";
import { eventually, withServer } from "./support.mjs";

const WORKER = new URL("./bullmq_worker.mjs", import.meta.url).pathname;
const JOBS = 120;
const REPEATS = 3;
const CHILDREN = 3;

/** A process that works, and the jobs that it says it has finished. */
function startWorker(port) {
    const worker = spawn(process.execPath, [WORKER, port], { stdio: ["ignore", "pipe", "inherit"] });
    const finished = [];
    let rest = "";
    worker.stdout.on("data", (bytes) => {
        const lines = (rest + bytes).split("\n");
        rest = lines.pop();
        finished.push(...lines);
    });
    return { worker, finished };
}

/** Delayed, with a priority, or plain. */
function optionsOf(number) {
    if (number % 5 === 0) return { delay: 300 };
    if (number % 7 === 0) return { priority: 1 + (number % 3) };
    return {};
}

test("no job is lost when a worker is killed, and none is finished twice but its own", async () => {
    await withServer(async (_, port) => {
        const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
        const queue = new Queue("work", { connection });
        const flows = new FlowProducer({ connection });
        const workers = [startWorker(port), startWorker(port)];
        try {
            const numbers = Array.from({ length: JOBS }, (_, number) => number);
            const jobs = numbers.map((number) => ({ name: "job", data: { number, ms: 20 }, opts: optionsOf(number) }));
            await queue.addBulk(jobs);
            await queue.upsertJobScheduler("again", { every: 200, limit: REPEATS }, { name: "again", data: { number: 1, ms: 1 } });
            const data = { number: 7, ms: 1 };
            const children = Array.from({ length: CHILDREN }, () => ({ name: "child", queueName: "work", data }));
            const tree = await flows.add({ name: "parent", queueName: "work", data, children });
            await eventually("one has begun", () => workers[0].finished.length > 5);
            workers[0].worker.kill("SIGKILL");
            const all = JOBS + REPEATS + CHILDREN + 1;
            await eventually("all are done", async () => (await queue.getCompletedCount()) >= all);
            const counts = await queue.getJobCounts();
            assert.deepEqual([counts.completed, counts.failed, counts.active, counts.waiting], [all, 0, 0, 0]);
            assert.equal(await tree.job.getState(), "completed");
            for (const job of await queue.getCompleted()) assert.equal(job.returnvalue, job.data.number * 2);
            const once = new Set(workers[1].finished);
            assert.equal(once.size, workers[1].finished.length, "the worker that lives has finished each of its jobs once");
        } finally {
            workers.forEach(({ worker }) => worker.kill("SIGKILL"));
            await queue.close();
            await flows.close();
        }
    });
});
