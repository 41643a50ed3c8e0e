"""python3 -m unittest; no WebAssembly needed."""

import json
import sys
import unittest
from pathlib import Path

# The contract as Python types, made from wit/ by componentize-py. The component has its own.
sys.path.insert(0, str(Path(__file__).parent / "bindings"))

import strategy
from wit_world.exports.retain import Moment, Policy, Question, SnapshotRow, Source

DAY = 24 * 3600
NOW = 20_000 * DAY


def snapshot(age_days, pins=(), incomplete_reason=""):
    start = NOW - age_days * DAY
    return SnapshotRow(
        id=f"snapshot-{age_days}",
        start=Moment(start, 0),
        end=Moment(start + 60, 0),
        incomplete_reason=incomplete_reason,
        pins=list(pins),
        tags=[],
        size=None,
    )


def decide(snapshots, configuration):
    strategy.About().configure(json.dumps(configuration))
    retain = strategy.Retain()
    question = Question(
        source=Source("host", "user", "/home"),
        policy=Policy(*[None] * 7),
        now=Moment(NOW, 0),
        offset_seconds=0,
        zone=[],
    )
    retain.begin(question)
    return ["expire" if one.expire else "keep" for one in retain.decide(snapshots)]


class Test(unittest.TestCase):
    def test_everything_for_some_days_then_one_a_week(self):
        rows = [snapshot(age) for age in (0, 1, 29, 40, 41, 60, 400)]
        wanted = ["keep", "keep", "keep", "keep", "expire", "keep", "expire"]
        self.assertEqual(decide(rows, {}), wanted)
        self.assertEqual(decide(rows[:2], {"keep-days": 1, "keep-weeks": 0}), ["keep", "expire"])

    def test_what_is_pinned_is_kept_and_what_is_incomplete_is_not(self):
        rows = [snapshot(500, pins=["hold"]), snapshot(2, incomplete_reason="canceled")]
        self.assertEqual(decide(rows, {}), ["keep", "expire"])

    def test_the_schema_is_json(self):
        schema = json.loads(strategy.About().describe().configuration_schema)
        self.assertEqual(schema["type"], "object")


if __name__ == "__main__":
    unittest.main()
