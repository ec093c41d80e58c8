"""Which settings are tried: a coarse grid, and the neighbours of a setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from eplb.advising.setting import Setting
from eplb.errors import OptionError
from eplb.replay.cost import CostModel

INTERVALS = (1, 4, 16)
BUDGETS = (0.02, 0.1, 0.3)
WINDOWS = (2, 4)
THRESHOLDS = (0.05, 0.1)
MORE_SLOTS = (8, 4)  # one slot in so many


def slot_choices(num_experts: int, num_ranks: int, cost: CostModel) -> list[int]:
    """Return the slots a rank that are tried: as few as hold all experts, one more, an eighth and a quarter more.

    Raises
    ------
    OptionError
        If the experts do not fit the memory of the ranks.

    Examples
    --------
    >>> from eplb.replay.cost import hardware_named, model_named
    >>> slot_choices(256, 8, CostModel(hardware=hardware_named("h200"), model=model_named("deepseek-v3")))
    [32, 33, 36, 40]
    """
    least = -(-num_experts // num_ranks)
    bytes_per_slot = cost.model.bytes_per_expert * cost.model.num_layers
    most = int(cost.hardware.memory_bytes // bytes_per_slot)
    if most < least:
        raise OptionError(
            f"ranks: the experts of {cost.model.name} take {least * bytes_per_slot / 1e9:,.1f} GB on each of "
            f"{num_ranks} ranks, {cost.hardware.name} has {cost.hardware.memory_bytes / 1e9:,.0f} GB; give more ranks"
        )
    more = {0, 1, *(-(-least // part) for part in MORE_SLOTS)}
    return sorted(least + spare for spare in more if least + spare <= min(most, num_experts) or spare == 0)


def coarse(base: Setting, slots: Sequence[int], splits: Sequence[str], most_windows: int) -> list[Setting]:
    """Return the dynamic settings that are tried first.

    Parameters
    ----------
    base : Setting
        What they have in common.
    slots, splits : sequences
        Slots a rank and splits to choose from; splits are alike where no expert has a replica.
    most_windows : int
        Windows that are chosen on: longer intervals say nothing there.
    """
    intervals = [interval for interval in INTERVALS if interval <= most_windows] or [1]
    pairs = slots_and_splits(base, slots, splits)
    return [replace(pair, policy="eplb", interval=interval) for pair, interval in product(pairs, intervals)]


def slots_and_splits(base: Setting, slots: Sequence[int], splits: Sequence[str]) -> list[Setting]:
    """Return `base` with each number of slots and each split; one split where there are no spare slots."""
    return [
        replace(base, slots_per_rank=number, split=split)
        for number in slots
        for split in (splits if number > slots[0] else splits[:1])
    ]


def other_intervals(setting: Setting, most_windows: int) -> list[Setting]:
    """Return `setting` planned twice as often, and half as often, as far as that says anything."""
    values = (setting.interval // 2, setting.interval * 2)
    return [replace(setting, interval=value) for value in values if 0 < value * setting.window <= most_windows]


def other_budgets(setting: Setting, most_windows: int) -> list[Setting]:
    """Return `setting` with other shares of the slots that a replan may move."""
    return [replace(setting, max_moves_share=value) for value in BUDGETS if value != setting.max_moves_share]


def other_windows(setting: Setting, most_windows: int) -> list[Setting]:
    """Return `setting` with windows that are summed before it sees them."""
    return [replace(setting, window=value) for value in WINDOWS if value * setting.interval <= most_windows]


def other_thresholds(setting: Setting, most_windows: int) -> list[Setting]:
    """Return `setting` with some imbalance put up with."""
    return [replace(setting, threshold=value) for value in THRESHOLDS]


NEIGHBOURS = (other_intervals, other_budgets, other_windows, other_thresholds)
"""What is varied around the best setting, in this order."""
