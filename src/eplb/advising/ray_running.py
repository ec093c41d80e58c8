"""Trials on a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from eplb import __version__
from eplb.advising.setting import Setting
from eplb.advising.tried import Stretch, Tried, try_setting
from eplb.advising.work import WAITING_PER_WORKER, Task, Work, handed_out, use_one_thread
from eplb.errors import EplbError, MissingDependencyError, OptionError
from eplb.trace import LoadTrace

LOCAL = "local"


def over_ray(work: Work, address: str) -> Generator[Tried, None, None]:
    """Yield each trial as it is made, in any order; every trial takes one processor of the cluster.

    Raises
    ------
    OptionError
        If there is no cluster at `address`, it is lost meanwhile, or it has another version of eplb.
    MissingDependencyError
        If Ray is not installed.
    """
    ray = require_ray()
    with _connected(ray, address):
        remote = ray.remote(_try).options(num_cpus=1)
        given = {name: ray.put(trace) for name, trace in work.traces.items()}
        stretch = ray.put(work.stretch)

        def submit(task: Task) -> Any:
            name, setting = task
            return remote.remote(name, given[name], setting, stretch, __version__)

        most = max(1, int(ray.cluster_resources().get("CPU", 1))) * WAITING_PER_WORKER
        try:
            yield from handed_out(work.tasks, most, submit, ray.wait, ray.get)
        except ray.exceptions.RayTaskError as exc:
            raise (exc.cause if isinstance(exc.cause, EplbError) else exc) from None
        except ray.exceptions.RayError as exc:
            first_line = str(exc).strip().partition("\n")[0][:200]
            raise OptionError(
                f"ray: the cluster at {address} failed: {first_line}; the rows found so far are kept: run the same "
                "command again"
            ) from None


def require_ray() -> Any:
    """Return the module ray, or raise `MissingDependencyError` with the command that installs it."""
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingDependencyError('ray: Ray is needed for it; pip install "eplb[ray]"') from None
    return ray


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Connect to the cluster, and leave it afterwards; where this process is connected already, it stays so."""
    if ray.is_initialized():
        yield
        return
    more = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (ConnectionError, ValueError, RuntimeError) as exc:
        first_line = str(exc).strip().partition("\n")[0][:200]
        raise OptionError(f"ray: no cluster at {address!r}: {first_line}; `ray start --head` starts one") from None
    try:
        yield
    finally:
        ray.shutdown()


def _try(name: str, trace: LoadTrace, setting: Setting, stretch: Stretch, version: str) -> Tried:
    if __version__ != version:
        raise OptionError(f"ray: expected eplb {version} on the cluster, got {__version__}; install the same")
    use_one_thread()
    return try_setting(name, trace, setting, stretch)
