"""Reports of what `eplb replay --json` printed."""

import json

import pytest

from eplb.cli.replay_json import replays_as_json
from eplb.cli.replay_source import Source
from eplb.errors import FileFormatError
from eplb.replay import policy_named, replay
from eplb.report import holds_replays, load_findings, recommend, report_html
from tests.report.conftest import TOPOLOGY


@pytest.fixture
def replays(trace):
    """Three policies, a plan every third window."""
    return [replay(trace, TOPOLOGY, policy_named(name), interval=3) for name in ("contiguous", "eplb", "oracle")]


@pytest.fixture
def content(trace, replays):
    """The object that the command prints."""
    options = {"first": 8, "interval": 3, "max_moves_share": 0.1}
    return {"file": "a.npz", "options": options, **replays_as_json(Source(trace=trace), replays, ["a note"])}


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes an object to a file."""

    def write(content):
        path = tmp_path / "replay.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_what_was_saved_is_found_again(saved, content, replays):
    """Balancedness, moves and when they were made."""
    path = saved(content)
    found = load_findings(path)
    assert holds_replays(path)
    for replayed in replays:
        policy = found.named(replayed.policy)
        assert policy.balancedness.tolist() == replayed.balancedness.tolist()
        assert policy.sees_future == replayed.sees_future
        assert policy.moves.tolist() == [0, *replayed.moves]


def test_the_report_says_what_is_missing(saved, content):
    """And where to get it."""
    html = report_html(load_findings(saved(content)))
    assert "which hold no loads" in html and "a note" in html


def test_the_recommendation_is_left_open_where_there_are_spare_slots(saved, content):
    """What these gain by themselves is not in the file; without any, there is nothing to tell apart."""
    told = recommend(load_findings(saved(content)))
    assert told.verdict == "open" and "what spare slots gain by themselves" in told.details[0]
    content["num_slots"] = content["num_experts"] * content["num_layers"]
    assert recommend(load_findings(saved(content))).verdict == "go"


def test_loads_are_not_taken_for_replays(tmp_path):
    """Nested lists, or nothing at all."""
    (tmp_path / "a.json").write_text("[[1, 2]]")
    assert not holds_replays(tmp_path / "a.json") and not holds_replays(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"num_slots": "many"}, "num_slots"),
        ({"windows_scored": 5}, "5 numbers"),
        ({"layer_ids": [1]}, "layer_ids"),
        ({"layer_ids": [1, 2, 2**80]}, "layer_ids"),
        ({"policies": {}}, "at least one policy"),
        ({"policies": {"eplb": []}}, "expected an object"),
        ({"options": {"interval": 1}}, "replans as 'moves'"),
        ({"num_experts": True}, "num_experts"),
    ],
)
def test_damage_is_named(saved, content, change, text):
    """By the entry, and with what to do."""
    with pytest.raises(FileFormatError, match=text):
        load_findings(saved(content | change))


@pytest.mark.parametrize("values", [[2.0] * 8, [-1] * 8, [float("nan")] * 8, ["a"] * 8, None])
def test_balancedness_out_of_range_is_named(saved, content, values):
    """Shares are 0 to 1."""
    content["policies"]["eplb"]["balancedness"] = values
    with pytest.raises(FileFormatError, match="policy 'eplb'"):
        load_findings(saved(content))


def test_what_is_no_object_is_named(saved):
    """A list, say."""
    with pytest.raises(FileFormatError, match="expected what `eplb replay --json` prints"):
        load_findings(saved([1]))
