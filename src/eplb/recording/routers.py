"""The routers of a torch model, found by what stands around them: no list of models, no import of their library."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NAMES = ("gate", "router")
CLASSES = re.compile(r"(Router|Gating)$")
EXPERTS = re.compile(r"experts$", re.IGNORECASE)
COUNTS = ("num_routed_experts", "num_experts", "n_routed_experts", "num_local_experts", "out_features")
CHOSEN = ("top_k", "num_experts_per_tok", "moe_top_k")
IDS = ("top_k_index", "router_indices")

LOOKED_FOR = (
    f"a module called {' or '.join(NAMES)}, or of a class *Router or *Gating, beside a module of experts "
    "(called *experts, or of a class *Experts)"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Router:
    """A module that chooses experts, with what is known of it before it runs.

    Parameters
    ----------
    path : str
        Its name in the model, such as "model.layers.3.mlp.gate".
    module, experts : torch.nn.Module
        The router, and the experts beside it.
    num_experts : int or None
        Experts E that hold weights; None if nothing tells.
    num_chosen : int or None
        Experts of a token k; None if nothing tells.
    """

    path: str
    module: Any
    experts: Any
    num_experts: int | None
    num_chosen: int | None

    @property
    def ids_argument(self) -> str | None:
        """Under which name the experts take the ids that were chosen; None if they take none."""
        return next((name for name in inspect.signature(self.experts.forward).parameters if name in IDS), None)


def find_routers(model: Any) -> list[Router]:
    """Return the routers of `model` in the order in which its modules stand."""
    return [router for path, block in model.named_modules() for router in _routers_of(path, block)]


def _routers_of(path: str, block: Any) -> Iterator[Router]:
    children = dict(block.named_children())
    experts = next((child for name, child in children.items() if _are_experts(name, child)), None)
    for name, child in children.items():
        if experts is not None and (name in NAMES or CLASSES.search(type(child).__name__)):
            yield Router(
                path=f"{path}.{name}".lstrip("."),
                module=child,
                experts=experts,
                num_experts=_number(COUNTS, experts, child, block) or _length(experts),
                num_chosen=_number(CHOSEN, child, block, experts),
            )


def _are_experts(name: str, module: Any) -> bool:
    return bool(EXPERTS.search(name) or EXPERTS.search(type(module).__name__)) and "shared" not in name


def _number(names: tuple[str, ...], *owners: Any) -> int | None:
    """Return the first whole number that one of `owners` has under one of `names`."""
    found = (getattr(owner, name, None) for owner in owners for name in names)
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def _length(experts: Any) -> int | None:
    return len(experts) if hasattr(experts, "__len__") else None
