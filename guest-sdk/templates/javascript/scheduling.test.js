// node --test; no WebAssembly needed.
import assert from "node:assert";
import { test } from "node:test";

import { about, schedule } from "./strategy.js";

const HOUR = 3600;

const task = (name) => ({
  name,
  verdict: "runs",
  because: "",
  untilSeconds: undefined,
  last: undefined,
  keepsBudget: true,
  cost: undefined,
});

function ask(hour, more = {}, configuration = {}) {
  about.configure(JSON.stringify(configuration));
  return schedule.schedule({
    nowSeconds: hour * HOUR,
    offsetSeconds: 0,
    zone: [],
    askedFor: false,
    cycles: [
      { cycle: "quick", because: "", tasks: [task("advance-epoch")] },
      { cycle: "full", because: "", tasks: [task("snapshot-gc"), task("full-delete-blobs")] },
    ],
    writers: 0,
    newestWriterSeconds: undefined,
    indexBlobs: 10,
    indexBytes: 1000,
    memoryBytes: 64 << 20,
    scratchBytes: 1 << 30,
    costs: { tag: "not-counted" },
    ...more,
  });
}

test("nothing during working hours", () => {
  assert.strictEqual(ask(12).tag, "wait");
  assert.strictEqual(ask(12).val.notBeforeSeconds, 20 * HOUR);
  assert.strictEqual(ask(12, { askedFor: true }).tag, "run");
  assert.strictEqual(ask(12, {}, { "closed-to-hour": 11 }).tag, "run");
});

test("local time counts", () => {
  assert.strictEqual(ask(21, { offsetSeconds: -2 * HOUR }).tag, "wait");
  const zone = [{ atSeconds: 0, offsetSeconds: 4 * HOUR }];
  assert.strictEqual(ask(5, { zone }).val.notBeforeSeconds, 16 * HOUR);
});

test("the full cycle comes first, with all of its tasks in their order", () => {
  const { val } = ask(3);
  assert.strictEqual(val.cycle, "full");
  assert.deepStrictEqual(val.tasks.map((task) => task.name), ["snapshot-gc", "full-delete-blobs"]);
});
