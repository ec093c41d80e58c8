"""What routers may return, and how the ids of experts are taken out of it."""

import pytest
import torch
from torch import nn

from eplb.errors import RecordingError
from eplb.recording import record
from tests.recording.models import Decoder, Layer

TOKENS = torch.tensor([[1, 2, 3]])
SCORES = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.1, 0.3], [0.2, 0.3, 0.8]])
IDS = torch.tensor([[1, 2], [0, 2], [2, 1]])
MASK = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]])


class Router(nn.Module):
    """Returns what it was made with."""

    def __init__(self, output, **known):
        super().__init__()
        self.output, self.num_experts = output, 3
        for name, value in known.items():
            setattr(self, name, value)

    def forward(self, hidden):
        return self.output


class Experts(nn.Module):
    def forward(self, hidden, top_k_index=None):
        return hidden


class Gated(nn.Module):
    """Calls its router, and its experts with ids if it is given some."""

    def __init__(self, router, experts, ids=None):
        super().__init__()
        self.router, self.experts, self.ids = router, experts, ids

    def forward(self, hidden):
        self.router(hidden)
        return hidden if self.ids is None else self.experts(hidden, top_k_index=self.ids)


def loads_of(router, experts=None, ids=None):
    model = Decoder([Layer(Gated(router, nn.ModuleList() if experts is None else experts, ids))], 4)
    with record(model) as recorder:
        model(TOKENS)
    return recorder.trace.loads[0, 0].tolist()


@pytest.mark.parametrize(
    ("output", "loads"),
    [
        ((SCORES, torch.ones(3, 2), IDS), [1, 2, 3]),
        ((IDS, torch.ones(3, 2), None), [1, 2, 3]),
        ([SCORES, SCORES, IDS[None].int()], [1, 2, 3]),
        ((SCORES, IDS.masked_fill(IDS == 2, -1)), [1, 2, 0]),
        ((SCORES, IDS + 1), [0, 1, 2]),
        ((MASK, torch.ones(3, 1), SCORES), [1, 1, 0]),
        ((MASK, SCORES * (SCORES > 0.25), SCORES), [1, 2, 3]),
        ((SCORES > 0.25, SCORES), [1, 2, 3]),
    ],
    ids=[
        "third of three",
        "first of three",
        "a list, with a batch",
        "-1 is none",
        "E is none",
        "mask",
        "shares",
        "booleans",
    ],
)
def test_ids_and_masks_are_taken(output, loads):
    """Whole numbers narrower than the experts are ids, as wide as them a mask, and shares may follow it."""
    assert loads_of(Router(output, top_k=2)) == loads


def test_ids_as_wide_as_the_experts_need_a_known_k():
    """Every token may go to all experts."""
    assert loads_of(Router((SCORES, torch.tensor([[0, 1, 2]] * 3)), top_k=3)) == [3, 3, 3]


def test_a_weight_of_nothing_is_no_choice_where_experts_can_be_skipped():
    """The scores have one column more than there are experts."""
    scores, weights = torch.rand(3, 4), torch.tensor([[0.5], [0.0], [0.3]])
    assert loads_of(Router((scores, weights, torch.tensor([[1], [0], [1]])), top_k=1)) == [0, 2, 0]
    assert loads_of(Router((SCORES, weights, torch.tensor([[1], [0], [1]])), top_k=1)) == [1, 2, 0]


@pytest.mark.parametrize("output", [SCORES, (SCORES.flip(1), SCORES), (torch.arange(6), SCORES)])
def test_the_best_scores_are_chosen_if_nothing_else_tells(output):
    """The k best of the last table of scores."""
    assert loads_of(Router(output, top_k=1)) == [1, 1, 1]


def test_what_the_experts_take_goes_before_scores():
    """A bias may stand between the scores and the choice; the experts are called with the ids."""
    assert loads_of(Router(SCORES, top_k=1), Experts(), torch.tensor([[0], [0], [2]])) == [2, 0, 1]


@pytest.mark.parametrize(
    ("router", "message"),
    [
        (Router(SCORES), r"or scores and a known k \(None\), got float32 \[3, 3\]"),
        (Router((SCORES[:, :2], "text"), top_k=1), r"got float32 \[3, 2\], str"),
        (Router(SCORES, top_k=1, correction_bias=nn.Parameter(torch.zeros(3))), "expected ids of experts"),
    ],
)
def test_an_output_that_is_not_understood_is_an_error(router, message):
    """It names the router and what came."""
    with pytest.raises(RecordingError, match=rf"layers\.0\.mlp\.router \(Router\): .*{message}"):
        loads_of(router)


def test_the_number_of_experts_must_be_told():
    """By the experts, the router or the block."""
    router = Router(SCORES, top_k=1)
    del router.num_experts
    with pytest.raises(RecordingError, match=r"layers\.0\.mlp\.router: expected num_experts"):
        loads_of(router, Experts())
