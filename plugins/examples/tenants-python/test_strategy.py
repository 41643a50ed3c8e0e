"""python3 -m unittest; no WebAssembly needed. The cases are those of all languages."""

import json
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).parent
# The contract as Python types; `careen plugin new` puts them beside the strategy.
sys.path.insert(0, str(HERE / "../../../guest-sdk/templates/python/bindings"))

import strategy
from wit_world.exports.retain import Moment, Policy, Question, SnapshotRow, Source, Tag

CASES = json.loads((HERE / "../tenants/cases.json").read_text())
DAY = 24 * 3600
NOW = 20_000 * DAY


def snapshot(row):
    start = NOW - row["age"] * DAY
    return SnapshotRow(
        id="snapshot",
        start=Moment(start, 0),
        end=Moment(start + 60, 0),
        incomplete_reason=row.get("incomplete", ""),
        pins=[row["pin"]] if "pin" in row else [],
        tags=[Tag("tag:" + key, row[key]) for key in ("customer", "tenant") if row.get(key)],
        size=None,
    )


def begin(configuration):
    strategy.About().configure(json.dumps(configuration))
    retain = strategy.Retain()
    source = Source("host", "user", "/home")
    retain.begin(Question(source, Policy(*[None] * 7), Moment(NOW, 0), 0, []))
    return retain


class Test(unittest.TestCase):
    def test_the_cases_of_all_languages(self):
        for case in CASES:
            with self.subTest(case["what"]):
                rows = [snapshot(row) for row in case["snapshots"]]
                decisions = begin(case["configuration"]).decide(rows)
                found = [(one.expire, one.reason) for one in decisions]
                wanted = [(row["expire"], row["reason"]) for row in case["snapshots"]]
                self.assertEqual(found, wanted)

    def test_batches_belong_to_one_source(self):
        rows = [snapshot({"age": age, "tenant": "acme"}) for age in (50, 51)]
        retain = begin({})
        first, second = retain.decide(rows[:1]) + retain.decide(rows[1:])
        self.assertEqual((first.expire, second.expire), (False, True))
        self.assertFalse(begin({}).decide(rows[1:])[0].expire)

    def test_too_many_tenants_are_an_error(self):
        retain = begin({})
        rows = [snapshot({"age": 1, "tenant": str(tenant)}) for tenant in range(10_001)]
        with self.assertRaises(strategy.Err):
            retain.decide(rows)


if __name__ == "__main__":
    unittest.main()
