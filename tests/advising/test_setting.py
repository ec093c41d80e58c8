"""`Setting` and `grid`: what they take, what they refuse, and what a setting is called."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

import eplb
from eplb.advising import Setting, grid, read_settings
from eplb.advising.setting import setting_names
from tests.advising.doubles import SMALL

OTHER_VALUES = {
    "num_ranks": 8,
    "slots_per_rank": 4,
    "num_nodes": 2,
    "policy": "static",
    "split": "weighted",
    "window": 2,
    "interval": 2,
    "max_moves_share": 0.2,
    "threshold": 0.1,
    "effort": "fast",
    "history": 5,
    "groups": 2,
    "seed": 1,
}


def test_every_value_changes_the_key():
    """Settings that differ in anything have keys of their own."""
    assert set(OTHER_VALUES) == set(setting_names())
    keys = {dataclasses.replace(SMALL, **{name: value}).key for name, value in OTHER_VALUES.items()}
    assert len(keys | {SMALL.key}) == len(OTHER_VALUES) + 1


def test_equal_settings_have_one_key():
    """However numbers are written: numpy's, an integer for a share, a minus before zero."""
    plain = Setting(num_ranks=4, slots_per_rank=3, max_moves_share=1.0, threshold=0.0)
    odd = Setting(num_ranks=np.int32(4), slots_per_rank=np.uint8(3), max_moves_share=1, threshold=-0.0)
    assert plain == odd and plain.key == odd.key and plain.canonical == odd.canonical


def test_the_key_does_not_depend_on_the_process():
    """A seed of Python's hashes changes nothing."""
    code = "from eplb.advising import Setting; print(Setting(num_ranks=4, slots_per_rank=3).key)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert done.stdout.strip() == SMALL.key


def test_a_setting_survives_json():
    """All values are plain, and come back equal."""
    for name, value in OTHER_VALUES.items():
        setting = dataclasses.replace(SMALL, **{name: value})
        assert Setting.from_dict(json.loads(setting.canonical)) == setting


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_ranks", 0),
        ("num_ranks", 2**21),
        ("slots_per_rank", "5"),
        ("slots_per_rank", [5, 5, 5, 5]),
        ("num_nodes", 5),
        ("policy", "best"),
        ("policy", None),
        ("policy", "mine=file.py:plan"),
        ("split", "odd"),
        ("window", 0),
        ("interval", 1.5),
        ("interval", True),
        ("max_moves_share", 1.1),
        ("max_moves_share", float("nan")),
        ("threshold", -0.1),
        ("threshold", True),
        ("effort", "most"),
        ("history", 0),
        ("groups", 0),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_a_value_out_of_range_is_named(name, value):
    """With what was expected, and what came."""
    with pytest.raises(eplb.EplbError, match=f"{name}: expected .*got"):
        dataclasses.replace(SMALL, **{name: value})


def test_too_many_slots_are_refused():
    """Before a machine is made of them."""
    with pytest.raises(eplb.EplbError, match=r"slots_per_rank: 4,294,967,296 slots in all"):
        Setting(num_ranks=2**16, slots_per_rank=2**16)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_ranks": 4}, "expected slots_per_rank, which has no default"),
        ({"num_ranks": 4, "slots_per_rank": 3, "rank": 4}, "expected some of num_ranks, .*, got 'rank'"),
    ],
)
def test_names_are_checked(values, message):
    """A name that is missing or unknown is said."""
    with pytest.raises(eplb.EplbError, match=message):
        Setting.from_dict(values)


# ---- grids


def test_a_grid_combines_all_values():
    """Each once."""
    choices = {"num_ranks": (4, 8), "slots_per_rank": 3, "split": ["even", "weighted"], "interval": range(1, 4)}
    settings = grid(choices)
    assert len(set(settings)) == 12
    assert {setting.interval for setting in settings} == {1, 2, 3}
    assert {setting.slots_per_rank for setting in settings} == {3}


def test_a_grid_beyond_a_million_is_refused():
    """Before any of it is made."""
    choices = {"num_ranks": range(1, 2001), "slots_per_rank": range(1, 2001)}
    with pytest.raises(eplb.EplbError, match="grid: 4,000,000 settings, more than 1,000,000"):
        grid(choices)


def test_an_empty_list_is_refused():
    """It would leave nothing to try."""
    with pytest.raises(eplb.EplbError, match="interval: expected at least one value, got none"):
        grid({"num_ranks": 4, "slots_per_rank": 3, "interval": []})


def test_settings_are_read_from_a_file(tmp_path):
    """As lists to combine, or one by one."""
    (tmp_path / "lists.json").write_text('{"num_ranks": [4, 8], "slots_per_rank": 3}')
    (tmp_path / "settings.json").write_text(
        '[{"num_ranks": 4, "slots_per_rank": 3}, {"num_ranks": 8, "slots_per_rank": 3}]'
    )
    for name in ("lists.json", "settings.json"):
        assert [setting.num_ranks for setting in read_settings(tmp_path / name)] == [4, 8]


@pytest.mark.parametrize("text", ["3", "[3]", "{", '{"num_ranks": 4, "num_ranks": 8}', '{"ranks": 4}', "[{}]"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    """What is wrong with it is said."""
    (tmp_path / "grid.json").write_text(text)
    with pytest.raises(eplb.EplbError, match=r"expected|not valid JSON"):
        read_settings(tmp_path / "grid.json")
