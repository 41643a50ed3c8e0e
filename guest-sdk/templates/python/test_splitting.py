"""python3 -m unittest; no WebAssembly needed."""

import json
import sys
import unittest
from pathlib import Path

# The contract as Python types, made from wit/ by componentize-py. The component has its own.
sys.path.insert(0, str(Path(__file__).parent / "bindings"))

import strategy
from wit_world.exports.repack import PackQuestion, PackRow
from wit_world.exports.split import Question


def joins(chain_end, last_settled):
    question = Question(
        write_epoch=20,
        chain_end=chain_end,
        last_settled=last_settled,
        full_checkpoint_frequency=7,
        shard_entries_max=16_000_000,
        epochs=[],
    )
    return [(join.min, join.max) for join in strategy.Split().split(question).joins]


def groups(configuration):
    strategy.About().configure(json.dumps(configuration))
    packs = [PackRow(metadata=False, used_bytes=used) for used in (1, 39, 40, 100)]
    return list(strategy.Repack().repack(PackQuestion(100, packs)).groups)


class Test(unittest.TestCase):
    def test_epochs_are_joined_when_kopia_would(self):
        self.assertEqual(joins(8, 14), [])
        self.assertEqual(joins(8, 15), [(8, 15)])
        self.assertEqual(joins(0, None), [])

    def test_short_packs_are_rewritten_together(self):
        self.assertEqual(groups({}), [1, 1, 0, 0])
        self.assertEqual(groups({"short-percent": 10}), [1, 0, 0, 0])


if __name__ == "__main__":
    unittest.main()
