"""Which routers belong together: one stack of layers, each with the number that the model gives it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from eplb.errors import RecordingError
from eplb.recording.routers import LOOKED_FOR, Router, find_routers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    """The routers that are recorded, lowest layer first.

    Parameters
    ----------
    path : str
        The module that runs the layers: one call of it is one forward; "" is the model itself.
    routers : list of L routers
    layer_ids : list of L ints
        The model's own number of each layer.
    num_experts : int
        Experts E, the same in each layer.
    """

    path: str
    routers: list[Router]
    layer_ids: list[int]
    num_experts: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """Where a router stands: its path with a star for the number of its layer, the number, what runs the layers."""

    pattern: str
    layer_id: int | None
    path: str


def find_stack(model: Any, chosen: str | None) -> Stack:
    """Return the stack of `model` whose routers match the glob `chosen`; None is all of them.

    Raises
    ------
    RecordingError
        If there is none, or more than one.
    """
    routers = find_routers(model)
    if not routers:
        raise RecordingError(f"{type(model).__name__}: no router found; looked for {LOOKED_FOR}")
    places = _places(routers)
    kept = [pair for pair in zip(routers, places, strict=True) if chosen is None or _matches(*pair, chosen)]
    if not kept:
        raise RecordingError(f"routers: {chosen!r} matches none of {_listed(places)}")
    _check_sizes(router for router, _ in kept)
    stack = _stack(kept)
    if stack is None:
        raise RecordingError(
            f"{type(model).__name__}: expected one router a layer and the same number of experts in each, got "
            f"{_listed([place for _, place in kept])}; choose with routers=, and record each in a `with` of its own"
        )
    return stack


def _stack(kept: list[tuple[Router, _Place]]) -> Stack | None:
    """Return the stack of these routers, or None if they are no single stack."""
    ids = [index if place.layer_id is None else place.layer_id for index, (_, place) in enumerate(kept)]
    paths = {place.path for _, place in kept}
    sizes = {router.num_experts for router, _ in kept}
    if len(set(ids)) < len(ids) or len(paths) > 1 or len(sizes) > 1:
        return None
    order = sorted(range(len(ids)), key=ids.__getitem__)
    routers = [kept[index][0] for index in order]
    return Stack(path=paths.pop(), routers=routers, layer_ids=[ids[i] for i in order], num_experts=sizes.pop() or 0)


def _check_sizes(routers: Iterable[Router]) -> None:
    for router in routers:
        if not router.num_experts:
            raise RecordingError(
                f"{router.path}: expected num_experts or n_routed_experts, an integer >= 1, on the router, its experts "
                f"or what holds them, got {router.num_experts!r}"
            )


def _places(routers: list[Router]) -> list[_Place]:
    """Return where each router stands; of several numbers in a path, the layer's is the one that differs most."""
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for router in routers:
        alike.setdefault(_skeleton(router.path), []).append(router.path.split("."))
    return [_place(router.path.split("."), alike[_skeleton(router.path)]) for router in routers]


def _skeleton(path: str) -> tuple[str, ...]:
    return tuple("*" if part.isdigit() else part for part in path.split("."))


def _place(parts: list[str], alike: list[list[str]]) -> _Place:
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return _Place(pattern=".".join(parts), layer_id=None, path="")
    at = max(numbers, key=lambda index: len({other[index] for other in alike}))
    pattern = ".".join([*parts[:at], "*", *parts[at + 1 :]])
    return _Place(pattern=pattern, layer_id=int(parts[at]), path=".".join(parts[: max(0, at - 1)]))


def _matches(router: Router, place: _Place, chosen: str) -> bool:
    return place.pattern == chosen or fnmatchcase(router.path, chosen)


def _listed(places: Iterable[_Place]) -> str:
    patterns = [place.pattern for place in places]
    return ", ".join(f"{pattern} ({patterns.count(pattern)})" for pattern in dict.fromkeys(patterns))
