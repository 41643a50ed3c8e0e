// Scheduling: nothing during working hours, everything that is due at other times.
//
// Change `schedule`; keep the rest. Every question meets a fresh instance: nothing is remembered.

const HOUR_SECONDS = 3600;
const DAY_SECONDS = 24 * HOUR_SECONDS;

// What a user may configure. The host checks it before `configure` is called.
const SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: {
    "closed-from-hour": { type: "integer", minimum: 0, maximum: 23 },
    "closed-to-hour": { type: "integer", minimum: 1, maximum: 24 },
  },
};

const DEFAULTS = { "closed-from-hour": 8, "closed-to-hour": 20 };
let settings = DEFAULTS;

// Local time minus UTC at a moment, in seconds.
function offsetAt(question, seconds) {
  const before = question.zone.filter((change) => Number(change.atSeconds) <= seconds);
  return before.length > 0 ? before[before.length - 1].offsetSeconds : question.offsetSeconds;
}

// What the host asks, once a run.
export const schedule = {
  schedule(question) {
    const now = Number(question.nowSeconds);
    const local = now + offsetAt(question, now);
    const time = ((local % DAY_SECONDS) + DAY_SECONDS) % DAY_SECONDS;
    const from = settings["closed-from-hour"] * HOUR_SECONDS;
    const to = settings["closed-to-hour"] * HOUR_SECONDS;
    if (from <= time && time < to && !question.askedFor) {
      return {
        tag: "wait",
        val: { notBeforeSeconds: now + to - time, reason: "people are at work" },
      };
    }
    const cycle = question.cycles.find((row) => row.cycle === "full") ?? question.cycles[0];
    const tasks = cycle.tasks.map(({ name }) => ({
      name,
      budget: { bytes: undefined, requests: undefined },
    }));
    return { tag: "run", val: { cycle: cycle.cycle, tasks, reason: "nobody is at work" } };
  },
};

// What the host shows to people, and the configuration.
export const about = {
  describe() {
    return {
      name: "@NAME@",
      version: "0.1.0",
      summary: "Nothing during working hours, everything that is due at other times.",
      configurationSchema: JSON.stringify(SCHEMA),
    };
  },

  configure(text) {
    settings = { ...DEFAULTS, ...JSON.parse(text) };
  },
};
