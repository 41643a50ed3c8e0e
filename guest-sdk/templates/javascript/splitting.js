// Splitting: index sets as Kopia shapes them; packs are rewritten when little of them is in use.
//
// Change `split` and `repack`; keep the rest.

// What a user may configure. The host checks it before `configure` is called.
const SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: { "short-percent": { type: "integer", minimum: 0, maximum: 100 } },
};

const DEFAULTS = { "short-percent": 40 };
let settings = DEFAULTS;

// What the host asks about the index: which epochs become one range, how large shards are.
export const split = {
  split(question) {
    const min = question.chainEnd;
    const max = question.lastSettled ?? -1;
    const isDue = max > min && max - min >= question.fullCheckpointFrequency;
    return {
      shardEntries: question.shardEntriesMax,
      joins: isDue ? [{ min, max }] : [],
      reason: isDue ? `epochs ${min} to ${max} become one range` : "no range is due",
    };
  },
};

// What the host asks about packs, 1,000 at a time: those with the same number are rewritten
// together, 0 leaves a pack as it is.
export const repack = {
  repack(question) {
    const packBytes = Number(question.packBytesMax);
    const short = Math.floor((packBytes * settings["short-percent"]) / 100);
    return {
      packBytes,
      groups: question.packs.map((pack) => (Number(pack.usedBytes) < short ? 1 : 0)),
      reason: `packs with less than ${short} bytes in use are short`,
    };
  },
};

// What the host shows to people, and the configuration.
export const about = {
  describe() {
    return {
      name: "@NAME@",
      version: "0.1.0",
      summary: "As Kopia, but packs are rewritten only when little of them is in use.",
      configurationSchema: JSON.stringify(SCHEMA),
    };
  },

  configure(text) {
    settings = { ...DEFAULTS, ...JSON.parse(text) };
  },
};
