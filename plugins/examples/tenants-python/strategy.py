"""Retention: never expire the only restore point of a tenant.

Snapshots of one source belong to tenants, by a tag. Each tenant keeps its newest complete
snapshots, however old they are; what is younger than some days is kept in any case; the rest is
expired. Kopia counts the snapshots of a source, whoever they belong to, so a tenant that stopped
saving loses its last one.

Memory: a number for each tenant, at most 10,000.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.about import Description
from wit_world.exports.retain import Decision

DAY_SECONDS = 24 * 3600
TENANTS_MAX = 10_000

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "tag": {"type": "string", "minLength": 1, "description": "The tag that names the tenant."},
        "restore-points": {
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
            "description": "Newest complete snapshots that each tenant keeps.",
        },
        "keep-days": {
            "type": "integer",
            "minimum": 0,
            "maximum": 36500,
            "description": "What is younger than so many days is kept.",
        },
    },
}


class Settings:
    """The configuration; the values here are those of `{}`."""

    tag = "tenant"
    restore_points = 1
    keep_days = 30


class Source:
    """What is known of the source at hand."""

    now_seconds = 0
    complete = {}


def tenant_of(row):
    """Returns the tenant of a snapshot, empty where no tag says."""
    for tag in row.tags:
        # Kopia puts this before tags that were given on its command line.
        if tag.key.removeprefix("tag:") == Settings.tag:
            return tag.value
    return ""


def keep(reason):
    return Decision(expire=False, reason=reason)


def expire(reason):
    return Decision(expire=True, reason=reason)


def decide(row):
    """Decides about the next snapshot, the newest first."""
    if row.pins:
        return keep("pinned: " + ", ".join(row.pins)[:200])
    age_days = (Source.now_seconds - row.start.seconds) // DAY_SECONDS
    if row.incomplete_reason:
        if age_days < 1:
            return keep("incomplete, less than a day old")
        return expire("incomplete: " + row.incomplete_reason[:200])
    tenant = tenant_of(row)
    whose = f"tenant {tenant[:100]}" if tenant else "no tenant"
    count = Source.complete.get(tenant, 0) + 1
    if count == 1 and len(Source.complete) == TENANTS_MAX:
        raise Err(f"more than {TENANTS_MAX} tenants in one source")
    Source.complete[tenant] = count
    if count <= Settings.restore_points:
        return keep(f"restore point {count} of {whose}")
    if age_days < Settings.keep_days:
        return keep(f"younger than {Settings.keep_days} days")
    return expire(f"{Settings.keep_days} days old or more, {whose} has {count - 1} newer")


class Retain(exports.Retain):
    """What the host asks."""

    def begin(self, question):
        Source.now_seconds = question.now.seconds
        Source.complete = {}

    def decide(self, snapshots):
        return [decide(row) for row in snapshots]


class About(exports.About):
    """What the host shows, and the configuration that it has checked against the schema."""

    def describe(self):
        return Description(
            name="tenants-python",
            version="1.0.0",
            summary="Each tenant keeps its newest complete snapshots, however old they are.",
            configuration_schema=json.dumps(SCHEMA),
        )

    def configure(self, text):
        given = json.loads(text)
        Settings.tag = given.get("tag", "tenant")
        Settings.restore_points = given.get("restore-points", 1)
        Settings.keep_days = given.get("keep-days", 30)
