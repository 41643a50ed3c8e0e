"""Scheduling: nothing during working hours, everything that is due at other times.

Change `schedule`; keep the rest. Every question meets a fresh instance: nothing is remembered.
"""

import json

from wit_world import exports
from wit_world.exports.about import Description
from wit_world.exports.schedule import (
    Budget,
    Cycle,
    Decision_Run,
    Decision_Wait,
    Pause,
    RunPlan,
    TaskChoice,
)

HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS

# What a user may configure. The host checks it before `configure` is called.
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "closed-from-hour": {"type": "integer", "minimum": 0, "maximum": 23},
        "closed-to-hour": {"type": "integer", "minimum": 1, "maximum": 24},
    },
}


class Settings:
    """The configuration; the values here are those of `{}`."""

    closed_from_hour = 8
    closed_to_hour = 20


def offset_at(question, seconds):
    """Returns local time minus UTC at a moment, in seconds."""
    offset = question.offset_seconds
    for change in question.zone:
        if change.at_seconds <= seconds:
            offset = change.offset_seconds
    return offset


class Schedule(exports.Schedule):
    """What the host asks, once a run."""

    def schedule(self, question):
        now = question.now_seconds
        time = (now + offset_at(question, now)) % DAY_SECONDS
        closed_from = Settings.closed_from_hour * HOUR_SECONDS
        closed_to = Settings.closed_to_hour * HOUR_SECONDS
        if closed_from <= time < closed_to and not question.asked_for:
            not_before = now + closed_to - time
            return Decision_Wait(Pause(not_before, "people are at work"))
        full = [row for row in question.cycles if row.cycle == Cycle.FULL]
        cycle = (full or question.cycles)[0]
        no_limit = Budget(bytes=None, requests=None)
        tasks = [TaskChoice(name=task.name, budget=no_limit) for task in cycle.tasks]
        return Decision_Run(RunPlan(cycle.cycle, tasks, "nobody is at work"))


class About(exports.About):
    """What the host shows to people, and the configuration."""

    def describe(self):
        return Description(
            name="@NAME@",
            version="0.1.0",
            summary="Nothing during working hours, everything that is due at other times.",
            configuration_schema=json.dumps(SCHEMA),
        )

    def configure(self, text):
        given = json.loads(text)
        Settings.closed_from_hour = given.get("closed-from-hour", 8)
        Settings.closed_to_hour = given.get("closed-to-hour", 20)
