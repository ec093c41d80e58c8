"""All-to-all by physical expert: rows go to the rank that holds their slot, and come back to where they were."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Exchange:
    """Where the rows of one layer go.

    Parameters
    ----------
    slots_m : tensor of int64 [M]
        The slot, 0 to P - 1, that computes each row of this rank.
    slots_per_rank : int
        S; slot p is on rank p // S.

    Notes
    -----
    All ranks of the default group make it, call `there` and then `back` together.
    """

    def __init__(self, slots_m: Tensor, slots_per_rank: int) -> None:
        num_slots = slots_per_rank * dist.get_world_size()
        sent_rs = torch.bincount(slots_m, minlength=num_slots).view(-1, slots_per_rank)
        received_rs = torch.empty_like(sent_rs)
        dist.all_to_all_single(received_rs, sent_rs)
        self._sent, self._received = sent_rs.sum(1).tolist(), received_rs.sum(1).tolist()
        self._by_slot = slots_m.argsort(stable=True)
        local_slots = torch.arange(slots_per_rank).repeat(len(received_rs)).repeat_interleave(received_rs.flatten())
        self._by_local_slot = local_slots.argsort(stable=True)
        self.counts: list[int] = received_rs.sum(0).tolist()
        """Rows that each slot of this rank gets, [S]."""

    def there(self, rows_md: Tensor) -> Tensor:
        """Send the rows to their slots; return those that came, slot after slot, as `experts.compute` takes them."""
        received = rows_md.new_empty(sum(self._received), rows_md.shape[1])
        dist.all_to_all_single(received, rows_md[self._by_slot], self._received, self._sent)
        return received[self._by_local_slot]

    def back(self, computed_md: Tensor) -> Tensor:
        """Return what was computed to the ranks that asked for it; return this rank's rows in their first order."""
        by_source = torch.empty_like(computed_md)
        by_source[self._by_local_slot] = computed_md
        returned = computed_md.new_empty(sum(self._sent), computed_md.shape[1])
        dist.all_to_all_single(returned, by_source, self._sent, self._received)
        rows_md = torch.empty_like(returned)
        rows_md[self._by_slot] = returned
        return rows_md


def of_all_ranks(own: Tensor) -> Tensor:
    """Return the tensors of all ranks, one after another along a new first axis."""
    found = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(found, own)
    return torch.stack(found)
