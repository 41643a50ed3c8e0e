// node --test; no WebAssembly needed.
import assert from "node:assert";
import { test } from "node:test";

import { about, retain } from "./strategy.js";

const DAY = 24 * 3600;
const NOW = 20_000 * DAY;

const snapshot = (ageDays, more = {}) => ({
  id: `snapshot-${ageDays}`,
  start: { seconds: NOW - ageDays * DAY, nanos: 0 },
  end: { seconds: NOW - ageDays * DAY + 60, nanos: 0 },
  incompleteReason: "",
  pins: [],
  tags: [],
  size: undefined,
  ...more,
});

function decide(configuration, snapshots) {
  about.configure(JSON.stringify(configuration));
  retain.begin({ now: { seconds: NOW, nanos: 0 } });
  return retain.decide(snapshots).map((decision) => (decision.expire ? "expire" : "keep"));
}

test("everything for some days, then one a week", () => {
  const ages = [0, 1, 29, 40, 41, 60, 400].map((age) => snapshot(age));
  assert.deepStrictEqual(decide({}, ages), [
    "keep", "keep", "keep", "keep", "expire", "keep", "expire",
  ]);
  assert.deepStrictEqual(decide({ "keep-days": 1, "keep-weeks": 0 }, ages.slice(0, 2)), [
    "keep", "expire",
  ]);
});

test("what is pinned is kept, what is incomplete is not", () => {
  const rows = [snapshot(500, { pins: ["hold"] }), snapshot(2, { incompleteReason: "canceled" })];
  assert.deepStrictEqual(decide({}, rows), ["keep", "expire"]);
});

test("the schema is JSON", () => {
  assert.strictEqual(JSON.parse(about.describe().configurationSchema).type, "object");
});
