// node --test; no WebAssembly needed.
import assert from "node:assert";
import { test } from "node:test";

import { about, repack, split } from "./strategy.js";

const joins = (chainEnd, lastSettled) =>
  split.split({
    writeEpoch: 20,
    chainEnd,
    lastSettled,
    fullCheckpointFrequency: 7,
    shardEntriesMax: 16_000_000,
    epochs: [],
  }).joins;

test("epochs are joined when Kopia would", () => {
  assert.deepStrictEqual(joins(8, 14), []);
  assert.deepStrictEqual(joins(8, 15), [{ min: 8, max: 15 }]);
  assert.deepStrictEqual(joins(0, undefined), []);
});

test("short packs are rewritten together", () => {
  const packs = [1, 39, 40, 100].map((usedBytes) => ({ metadata: false, usedBytes }));
  const groups = (configuration) => {
    about.configure(JSON.stringify(configuration));
    return Array.from(repack.repack({ packBytesMax: 100, packs }).groups);
  };
  assert.deepStrictEqual(groups({}), [1, 1, 0, 0]);
  assert.deepStrictEqual(groups({ "short-percent": 10 }), [1, 0, 0, 0]);
});
