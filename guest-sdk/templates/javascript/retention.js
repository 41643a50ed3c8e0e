// Retention: everything for some days, then the newest snapshot of each week for some weeks.
//
// Change `decide`; keep the rest. Memory: a number for each week of the source.

const DAY_SECONDS = 24 * 3600;

// What a user may configure. The host checks it before `configure` is called.
const SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: {
    "keep-days": { type: "integer", minimum: 1, maximum: 36500 },
    "keep-weeks": { type: "integer", minimum: 0, maximum: 5200 },
  },
};

const DEFAULTS = { "keep-days": 30, "keep-weeks": 52 };
let settings = DEFAULTS;

// What is known of the source at hand.
let nowSeconds = 0;
let weeks = new Set();

const keep = (reason) => ({ expire: false, reason });
const expire = (reason) => ({ expire: true, reason });

// Decides about one snapshot; they come the newest first.
function decide(row) {
  const start = Number(row.start.seconds);
  const ageDays = Math.floor((nowSeconds - start) / DAY_SECONDS);
  if (row.pins.length > 0) {
    return keep("pinned");
  }
  if (row.incompleteReason !== "") {
    return ageDays < 1 ? keep("incomplete, but new") : expire("incomplete");
  }
  // Weeks begin on Monday; 1970 began on a Thursday.
  const week = Math.floor((Math.floor(start / DAY_SECONDS) + 3) / 7);
  const isNewest = !weeks.has(week);
  weeks.add(week);
  if (ageDays < settings["keep-days"]) {
    return keep(`younger than ${settings["keep-days"]} days`);
  }
  if (isNewest && ageDays < settings["keep-weeks"] * 7) {
    return keep("newest of its week");
  }
  return expire("too old");
}

// What the host asks: `begin` once for each source, then `decide` for its snapshots.
export const retain = {
  begin(question) {
    nowSeconds = Number(question.now.seconds);
    weeks = new Set();
  },

  decide(snapshots) {
    return snapshots.map(decide);
  },
};

// What the host shows to people, and the configuration.
export const about = {
  describe() {
    return {
      name: "@NAME@",
      version: "0.1.0",
      summary: "Everything for some days, then the newest of each week.",
      configurationSchema: JSON.stringify(SCHEMA),
    };
  },

  configure(text) {
    settings = { ...DEFAULTS, ...JSON.parse(text) };
  },
};
