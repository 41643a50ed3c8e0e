"""python3 -m unittest; no WebAssembly needed."""

import json
import sys
import unittest
from pathlib import Path

# The contract as Python types, made from wit/ by componentize-py. The component has its own.
sys.path.insert(0, str(Path(__file__).parent / "bindings"))

import strategy
from wit_world.exports.schedule import (
    CostKnowledge_NotCounted,
    Cycle,
    CycleRow,
    Decision_Run,
    Decision_Wait,
    Question,
    TaskRow,
    Verdict,
    ZoneChange,
)

HOUR = 3600


def task(name):
    return TaskRow(
        name=name,
        verdict=Verdict.RUNS,
        because="",
        until_seconds=None,
        last=None,
        keeps_budget=True,
        cost=None,
    )


def ask(hour, asked_for=False, offset_seconds=0, zone=(), configuration=None):
    strategy.About().configure(json.dumps(configuration or {}))
    question = Question(
        now_seconds=hour * HOUR,
        offset_seconds=offset_seconds,
        zone=list(zone),
        asked_for=asked_for,
        cycles=[
            CycleRow(Cycle.QUICK, "", [task("advance-epoch")]),
            CycleRow(Cycle.FULL, "", [task("snapshot-gc"), task("full-delete-blobs")]),
        ],
        writers=0,
        newest_writer_seconds=None,
        index_blobs=10,
        index_bytes=1000,
        memory_bytes=64 << 20,
        scratch_bytes=1 << 30,
        costs=CostKnowledge_NotCounted(),
    )
    return strategy.Schedule().schedule(question)


class Test(unittest.TestCase):
    def test_nothing_during_working_hours(self):
        self.assertEqual(ask(12).value.not_before_seconds, 20 * HOUR)
        self.assertIsInstance(ask(12, asked_for=True), Decision_Run)
        self.assertIsInstance(ask(12, configuration={"closed-to-hour": 11}), Decision_Run)

    def test_local_time_counts(self):
        self.assertIsInstance(ask(21, offset_seconds=-2 * HOUR), Decision_Wait)
        zone = [ZoneChange(at_seconds=0, offset_seconds=4 * HOUR)]
        self.assertEqual(ask(5, zone=zone).value.not_before_seconds, 16 * HOUR)

    def test_the_full_cycle_comes_first_with_all_of_its_tasks_in_their_order(self):
        plan = ask(3).value
        self.assertEqual(plan.cycle, Cycle.FULL)
        self.assertEqual([one.name for one in plan.tasks], ["snapshot-gc", "full-delete-blobs"])


if __name__ == "__main__":
    unittest.main()
