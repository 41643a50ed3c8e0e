// Retention: never expire the only restore point of a tenant.
//
// Snapshots of one source belong to tenants, by a tag. Each tenant keeps its newest complete
// snapshots, however old they are; what is younger than some days is kept in any case; the rest is
// expired. Kopia counts the snapshots of a source, whoever they belong to, so a tenant that stopped
// saving loses its last one.
//
// Memory: a number for each tenant, at most 10,000.

const DAY_SECONDS = 24 * 3600;
const TENANTS_MAX = 10_000;

const SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: {
    tag: { type: "string", minLength: 1, description: "The tag that names the tenant." },
    "restore-points": {
      type: "integer",
      minimum: 1,
      maximum: 1000,
      description: "Newest complete snapshots that each tenant keeps.",
    },
    "keep-days": {
      type: "integer",
      minimum: 0,
      maximum: 36500,
      description: "What is younger than so many days is kept.",
    },
  },
};

// The configuration; the values here are those of `{}`.
const DEFAULTS = { tag: "tenant", "restore-points": 1, "keep-days": 30 };
let settings = DEFAULTS;

// What is known of the source at hand.
let nowSeconds = 0;
let complete = new Map();

const keep = (reason) => ({ expire: false, reason });
const expire = (reason) => ({ expire: true, reason });

// The tenant of a snapshot, empty where no tag says.
function tenantOf(row) {
  // Kopia puts this before tags that were given on its command line.
  const tag = row.tags.find((tag) => tag.key.replace(/^tag:/, "") === settings.tag);
  return tag ? tag.value : "";
}

// Decides about the next snapshot, the newest first.
function decide(row) {
  if (row.pins.length > 0) {
    return keep(`pinned: ${row.pins.join(", ").slice(0, 200)}`);
  }
  const ageDays = Math.floor((nowSeconds - Number(row.start.seconds)) / DAY_SECONDS);
  if (row.incompleteReason !== "") {
    return ageDays < 1
      ? keep("incomplete, less than a day old")
      : expire(`incomplete: ${row.incompleteReason.slice(0, 200)}`);
  }
  const tenant = tenantOf(row);
  const whose = tenant === "" ? "no tenant" : `tenant ${tenant.slice(0, 100)}`;
  const count = (complete.get(tenant) ?? 0) + 1;
  if (count === 1 && complete.size === TENANTS_MAX) {
    throw `more than ${TENANTS_MAX} tenants in one source`;
  }
  complete.set(tenant, count);
  const keepDays = settings["keep-days"];
  if (count <= settings["restore-points"]) {
    return keep(`restore point ${count} of ${whose}`);
  }
  if (ageDays < keepDays) {
    return keep(`younger than ${keepDays} days`);
  }
  return expire(`${keepDays} days old or more, ${whose} has ${count - 1} newer`);
}

// What the host asks.
export const retain = {
  begin(question) {
    nowSeconds = Number(question.now.seconds);
    complete = new Map();
  },

  decide(snapshots) {
    return snapshots.map(decide);
  },
};

// What the host shows, and the configuration that it has checked against the schema.
export const about = {
  describe() {
    return {
      name: "tenants-javascript",
      version: "1.0.0",
      summary: "Each tenant keeps its newest complete snapshots, however old they are.",
      configurationSchema: JSON.stringify(SCHEMA),
    };
  },

  configure(text) {
    settings = { ...DEFAULTS, ...JSON.parse(text) };
  },
};
