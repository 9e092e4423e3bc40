"""What processes agree on, and how their records become one."""

import torch

from seaanchor.distributed.process_group import ProcessGroup, gathered
from seaanchor.training.loggers import StepRecord
from seaanchor.types import Constraint


def test_alone_there_is_nothing_to_agree_on():
    record, alone = StepRecord(torch.arange(3.0), None, None), ProcessGroup()
    assert (alone.rank, alone.world, alone.first) == (0, 1, True)
    assert alone.total([2, 0.5]) == [2, 0.5] and alone.agree("x") == "x" and alone.gather(3) == [3]
    assert gathered(alone, record) is record
    alone.barrier()


def test_records_of_several_processes_become_one(monkeypatch):
    """Also where one has no row that counts, and hence no constraint."""
    records = [
        [
            StepRecord(torch.tensor([1.0, 2.0]), Constraint(torch.tensor([3.0, 4.0]), torch.ones(2)), None),
            torch.zeros(2, 3),
        ],
        [StepRecord(torch.empty(0), None, None), torch.ones(0, 3)],
        [StepRecord(torch.tensor([5.0]), Constraint(torch.tensor([6.0]), torch.ones(1)), None), torch.ones(1, 3)],
    ]
    monkeypatch.setattr(ProcessGroup, "gather", lambda self, value: records)
    record, embedding = gathered(ProcessGroup(0, 3), records[0])
    assert (
        record.objective_B.tolist() == [1, 2, 5]
        and record.constraint.distance_B.tolist() == [3, 4, 6]
        and record.multiplier_B is None
    )
    assert embedding.shape == (3, 3)
