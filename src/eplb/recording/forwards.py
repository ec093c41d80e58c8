"""Watching a model's forwards through hooks: which experts each router chose, and what it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from eplb.errors import RecordingError
from eplb.recording.inputs import Call, batch_shape, mask_of, parameter_names, phase_of, real_tokens
from eplb.recording.outputs import Reader, reader_of, reader_of_scores
from eplb.recording.routers import Router
from eplb.recording.stacks import Stack

Hook = Callable[..., None]


class Forward(NamedTuple):
    """One forward of a stack.

    Parameters
    ----------
    taken : list of (layer, ids [..., k])
        What each router chose, as often as it ran; tensors, -1 or E and more for no expert.
    num_tokens : int
        Tokens N, padding included.
    real : tensor of N booleans or None
        Which tokens are no padding; None if all are.
    phase : {"prefill", "decode", "mixed"}
    """

    taken: list[tuple[int, Any]]
    num_tokens: int
    real: Any
    phase: str


class Watch:
    """Hooks on a model that report each forward of a stack.

    Parameters
    ----------
    model : torch.nn.Module
    stack : Stack
    report : callable
        Called with each `Forward` that came to its end.
    count_padding : bool
        Whether masks are not looked at.
    pad_token_id : int or None
        Tokens with this id are padding too.
    """

    def __init__(
        self, model: Any, stack: Stack, report: Callable[[Forward], None], count_padding: bool, pad_token_id: int | None
    ) -> None:
        self._stack, self._report = stack, report
        self._count_padding, self._pad_token_id = count_padding, pad_token_id
        self._frames: list[Call] = []  # what the modules around the layers were called with, outermost first
        self._inside: list[bool] = []  # empty outside of a forward of the stack
        self._taken: list[tuple[int, Any]] = []
        self._hooks: list[Any] = []
        try:
            self._hook(model)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Take all hooks off."""
        while self._hooks:
            self._hooks.pop().remove()

    def _hook(self, model: Any) -> None:
        for path in _way_to(self._stack.path):
            module = model.get_submodule(path)
            enters, leaves = self._around(parameter_names(module), runs_layers=path == self._stack.path)
            self._hooks.append(module.register_forward_pre_hook(enters, with_kwargs=True))
            self._hooks.append(module.register_forward_hook(leaves, always_call=True))
        for layer, router in enumerate(self._stack.routers):
            # before other hooks: those of expert parallelism replace the ids by those of the own rank
            hook = self._settling(layer, router, len(self._hooks))
            self._hooks.append(router.module.register_forward_hook(hook, prepend=True))

    def _around(self, names: list[str], runs_layers: bool) -> tuple[Hook, Hook]:
        """Return what is called before and after a module around the layers, whose arguments have these names."""

        def enters(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._frames.append(Call(names, args, kwargs))
            if runs_layers:
                self._begin(True)

        def leaves(module: Any, args: tuple[Any, ...], output: Any) -> None:
            try:
                if runs_layers and self._taken and output is not None:  # None: the forward raised
                    self._report(self._forward(list(self._taken)))
            finally:
                if runs_layers:
                    self._begin(False)
                if self._frames:
                    self._frames.pop()

        return enters, leaves

    def _begin(self, inside: bool) -> None:
        """Forget what was taken; `inside` tells whether a forward of the stack begins, or has ended."""
        self._taken.clear()
        self._inside[:] = [True] if inside else []

    def _settling(self, layer: int, router: Router, place: int) -> Hook:
        """Return the first hook of a router, which settles at its first output how that is read, and hands over."""

        def settles(module: Any, args: tuple[Any, ...], output: Any) -> None:
            if not self._inside:  # as when a backward pass runs a layer again
                return
            reader = reader_of(router, output)
            if reader is None and router.ids_argument is not None:
                self._move_to_experts(layer, router, place)
                return
            takes = self._taking(layer, reader or reader_of_scores(router, output) or _refuse(router, output))
            self._hooks[place].remove()
            self._hooks[place] = module.register_forward_hook(takes, prepend=True)
            takes(module, args, output)

        return settles

    def _taking(self, layer: int, reader: Reader) -> Hook:
        """Return the hook that stays: little, as it finds the caches of the processor full of weights."""
        inside, taken = self._inside, self._taken

        def takes(module: Any, args: tuple[Any, ...], output: Any) -> None:
            if inside:
                taken.append((layer, reader(output)))

        return takes

    def _move_to_experts(self, layer: int, router: Router, place: int) -> None:
        """Hook the experts in place of a router that returns scores: they are called next, with the ids."""
        names, argument = parameter_names(router.experts), str(router.ids_argument)

        def called(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._inside:
                self._taken.append((layer, Call(names, args, kwargs).get(argument)))

        self._hooks[place].remove()
        self._hooks[place] = router.experts.register_forward_pre_hook(called, with_kwargs=True)

    def _forward(self, taken: list[tuple[int, Any]]) -> Forward:
        given, mask = self._frames[-1], mask_of(self._frames)
        shape = batch_shape(given)
        real = None if self._count_padding else self._real(given, mask, shape)
        if real is not None:
            self._check_rows(taken, real.numel())
        return Forward(taken, _num_rows(taken[0][1]), real, phase_of(given, mask, shape))

    def _real(self, given: Call, mask: Any, shape: tuple[int, int] | None) -> Any:
        real, ids = real_tokens(mask, shape), given.get("input_ids")
        if self._pad_token_id is None or ids is None:
            return real
        words = ids != self._pad_token_id
        return words if real is None else words & real.to(words.device)

    def _check_rows(self, taken: list[tuple[int, Any]], num_tokens: int) -> None:
        for layer, ids in taken:
            if ids.numel() != num_tokens * ids.shape[-1]:
                raise RecordingError(
                    f"{self._stack.routers[layer].path}: expected a row for each of {num_tokens} tokens, got "
                    f"{_num_rows(ids)}: which are padding is not known; pass count_padding=True to count them all"
                )


def _num_rows(ids: Any) -> int:
    return int(ids.numel() // ids.shape[-1])


def _way_to(path: str) -> list[str]:
    """Return the paths of the modules from the model to `path`, both included: "", "model", "model.decoder"."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts) + 1)]


def _refuse(router: Router, output: Any) -> Reader:
    got = ", ".join(map(_described, output if isinstance(output, (tuple, list)) else [output]))
    raise RecordingError(
        f"{router.path} ({type(router.module).__name__}): expected ids of experts [tokens, k], a mask "
        f"[tokens, {router.num_experts}], or scores and a known k ({router.num_chosen}), got {got}"
    )


def _described(part: Any) -> str:
    if not hasattr(part, "dtype"):
        return type(part).__name__
    return f"{str(part.dtype).removeprefix('torch.')} {list(part.shape)}"
