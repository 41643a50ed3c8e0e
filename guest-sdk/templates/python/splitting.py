"""Splitting: index sets as Kopia shapes them; packs are rewritten when little of them is in use.

Change `split` and `repack`; keep the rest.
"""

import json

from wit_world import exports
from wit_world.exports.about import Description
from wit_world.exports.repack import PackPlan
from wit_world.exports.split import EpochRange, Plan

# What a user may configure. The host checks it before `configure` is called.
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"short-percent": {"type": "integer", "minimum": 0, "maximum": 100}},
}


class Settings:
    """The configuration; the values here are those of `{}`."""

    short_percent = 40


class Split(exports.Split):
    """What the host asks about the index: which epochs become one range, how large shards are."""

    def split(self, question):
        first, last = question.chain_end, question.last_settled
        joins, reason = [], "no range is due"
        if last is not None and last > first:
            if last - first >= question.full_checkpoint_frequency:
                joins = [EpochRange(first, last)]
                reason = f"epochs {first} to {last} become one range"
        return Plan(question.shard_entries_max, joins, reason)


class Repack(exports.Repack):
    """What the host asks about packs, 1,000 at a time: those with the same number are rewritten
    together, 0 leaves a pack as it is."""

    def repack(self, question):
        short = question.pack_bytes_max * Settings.short_percent // 100
        groups = bytes(1 if pack.used_bytes < short else 0 for pack in question.packs)
        reason = f"packs with less than {short} bytes in use are short"
        return PackPlan(question.pack_bytes_max, groups, reason)


class About(exports.About):
    """What the host shows to people, and the configuration."""

    def describe(self):
        return Description(
            name="@NAME@",
            version="0.1.0",
            summary="As Kopia, but packs are rewritten only when little of them is in use.",
            configuration_schema=json.dumps(SCHEMA),
        )

    def configure(self, text):
        Settings.short_percent = json.loads(text).get("short-percent", 40)
