// A worker that the test of BullMQ starts, and may kill: it says each job that it has finished.

import { Worker } from "bullmq";

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null };
const options = { connection, concurrency: 4, lockDuration: 1000, stalledInterval: 500, maxStalledCount: 3 };
const work = async (job) => {
    await new Promise((done) => setTimeout(done, job.data.ms));
    process.stdout.write(`${job.id}\n`);
    return job.data.number * 2;
};
const worker = new Worker("work", work, options);
worker.on("error", () => {});
process.on("SIGTERM", async () => {
    await worker.close();
    process.exit(0);
});
