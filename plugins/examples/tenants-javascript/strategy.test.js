// node --test; no WebAssembly needed. The cases are those of all languages.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { about, retain } from "./strategy.js";

const CASES = JSON.parse(readFileSync(new URL("../tenants/cases.json", import.meta.url)));
const DAY = 24 * 3600;
const NOW = 20_000 * DAY;

function snapshot(row) {
  const start = NOW - row.age * DAY;
  const tags = ["customer", "tenant"].filter((key) => row[key]);
  return {
    id: "snapshot",
    start: { seconds: start, nanos: 0 },
    end: { seconds: start + 60, nanos: 0 },
    incompleteReason: row.incomplete ?? "",
    pins: row.pin ? [row.pin] : [],
    tags: tags.map((key) => ({ key: `tag:${key}`, value: row[key] })),
    size: undefined,
  };
}

function begin(configuration) {
  about.configure(JSON.stringify(configuration));
  retain.begin({ now: { seconds: NOW, nanos: 0 } });
}

for (const { what, configuration, snapshots } of CASES) {
  test(what, () => {
    begin(configuration);
    const found = retain.decide(snapshots.map(snapshot));
    const wanted = snapshots.map(({ expire, reason }) => ({ expire, reason }));
    assert.deepStrictEqual(found, wanted);
  });
}

test("batches belong to one source", () => {
  const [first, second] = [50, 51].map((age) => snapshot({ age, tenant: "acme" }));
  begin({});
  assert.strictEqual(retain.decide([first])[0].expire, false);
  assert.strictEqual(retain.decide([second])[0].expire, true);
  begin({});
  assert.strictEqual(retain.decide([second])[0].expire, false);
});

test("too many tenants are an error", () => {
  begin({});
  const rows = Array.from({ length: 10_001 }, (_, tenant) => snapshot({ age: 1, tenant: `t${tenant}` }));
  assert.throws(() => retain.decide(rows), /tenants/);
});
