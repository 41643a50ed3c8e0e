"""Retention: everything for some days, then the newest snapshot of each week for some weeks.

Change `decide`; keep the rest. Memory: a number for each week of the source.
"""

import json

from wit_world import exports
from wit_world.exports.about import Description
from wit_world.exports.retain import Decision

DAY_SECONDS = 24 * 3600

# What a user may configure. The host checks it before `configure` is called.
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "keep-days": {"type": "integer", "minimum": 1, "maximum": 36500},
        "keep-weeks": {"type": "integer", "minimum": 0, "maximum": 5200},
    },
}


class Settings:
    """The configuration; the values here are those of `{}`."""

    keep_days = 30
    keep_weeks = 52


class Source:
    """What is known of the source at hand."""

    now_seconds = 0
    weeks = set()


def keep(reason):
    return Decision(expire=False, reason=reason)


def expire(reason):
    return Decision(expire=True, reason=reason)


def decide(row):
    """Decides about one snapshot; they come the newest first."""
    age_days = (Source.now_seconds - row.start.seconds) // DAY_SECONDS
    if row.pins:
        return keep("pinned")
    if row.incomplete_reason:
        return keep("incomplete, but new") if age_days < 1 else expire("incomplete")
    # Weeks begin on Monday; 1970 began on a Thursday.
    week = (row.start.seconds // DAY_SECONDS + 3) // 7
    is_newest = week not in Source.weeks
    Source.weeks.add(week)
    if age_days < Settings.keep_days:
        return keep(f"younger than {Settings.keep_days} days")
    if is_newest and age_days < Settings.keep_weeks * 7:
        return keep("newest of its week")
    return expire("too old")


class Retain(exports.Retain):
    """What the host asks: `begin` once for each source, then `decide` for its snapshots."""

    def begin(self, question):
        Source.now_seconds = question.now.seconds
        Source.weeks = set()

    def decide(self, snapshots):
        return [decide(row) for row in snapshots]


class About(exports.About):
    """What the host shows to people, and the configuration."""

    def describe(self):
        return Description(
            name="@NAME@",
            version="0.1.0",
            summary="Everything for some days, then the newest of each week.",
            configuration_schema=json.dumps(SCHEMA),
        )

    def configure(self, text):
        given = json.loads(text)
        Settings.keep_days = given.get("keep-days", 30)
        Settings.keep_weeks = given.get("keep-weeks", 52)
