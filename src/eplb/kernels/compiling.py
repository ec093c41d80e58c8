"""How kernels are compiled and where the compiled code is kept.

No `fastmath`, so that plans are bit-identical across machines. The cache lies in a folder named after the content of
all kernels, since numba looks only at the file of the outermost one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import shutil
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding
import numba

from eplb.compiling_notice import saying_when_compiling

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_lock = threading.Lock()


def kernel(function: Kernel) -> Kernel:
    """Compile `function` on first call from Python: no GIL, no fastmath, kept on disk where possible."""
    folder = cache_folder()
    with _lock, _numba_cache_in(folder):
        return numba.njit(nogil=True, cache=folder is not None, error_model="numpy")(function)


def part(function: Kernel) -> Kernel:
    """Compile `function` as a part of the kernels that call it.

    It has no entry for Python and no file of its own: both take long to compile.
    """
    options = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(**options)(function)


def ensure_compiled(function: Any, args: tuple[Any, ...]) -> None:
    """Compile `function`, or load it from disk, by calling it for no layers: ``function(0, 0, *args)``.

    One process at a time compiles, so that sixteen that start together do not all do so: the first one leaves a mark,
    and the others load what it compiled. Where nothing can be kept or locked, every process compiles for itself. A
    damaged file is thrown away, with a warning, and compiled anew.
    """
    if getattr(function, "overloads", True):
        return
    folder = cache_folder()
    with saying_when_compiling(function):
        if folder is None:
            function(0, 0, *args)
            return
        mark = folder / _mark_of(function)
        with ExitStack() as stack:
            if not mark.exists():
                with suppress(OSError):  # a full disk, or a file system without locks
                    fcntl.flock(stack.enter_context((folder / "lock").open("a")), fcntl.LOCK_EX)
            try:
                function(0, 0, *args)
            except (EOFError, pickle.UnpicklingError) as exc:
                what = f"eplb: damaged compiled code in {folder} ({exc!r}); compiling anew"
                warnings.warn(what, RuntimeWarning, stacklevel=4)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True, exist_ok=True)
                function(0, 0, *args)
            with suppress(OSError):
                mark.touch()


def _mark_of(function: Any) -> str:
    """Return a name that changes with all that makes numba compile anew."""
    target = llvmlite.binding.get_host_cpu_name()
    versions = (numba.__version__, llvmlite.__version__, *sys.version_info[:2], target)
    return "-".join(["compiled", function.__name__, *(str(part) for part in versions)])


@cache
def cache_folder() -> Path | None:
    """Return the folder for compiled code; None (said in a warning) where no private folder can be written.

    The first that can be written of: NUMBA_CACHE_DIR, the package's own `__pycache__`, the user's cache folder, a
    private folder among the temporary files.
    """
    digest = _kernels_digest()
    for base in _lasting_folders():
        folder = base / f"eplb-{digest}"
        if _can_write(folder):
            return folder
        if str(base) == os.environ.get("NUMBA_CACHE_DIR"):
            warnings.warn(f"eplb: NUMBA_CACHE_DIR={base} cannot be written", RuntimeWarning, stacklevel=2)
    private = _private_temporary_folder()
    if private is not None and _can_write(private / digest):
        warnings.warn(
            f"eplb: no lasting folder can be written; compiled code is kept in {private}. "
            "Set NUMBA_CACHE_DIR to a folder of your own to keep it.",
            RuntimeWarning,
            stacklevel=2,
        )
        return private / digest
    warnings.warn(
        "eplb: no folder can be written; every process compiles anew (up to a minute). "
        "Set NUMBA_CACHE_DIR to a folder of your own.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _kernels_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(str(file.relative_to(Path(__file__).parent)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _lasting_folders() -> Iterator[Path]:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        yield Path(chosen)
    yield Path(__file__).parent / "__pycache__"
    if os.environ.get("XDG_CACHE_HOME"):
        yield Path(os.environ["XDG_CACHE_HOME"]) / "eplb"
    elif os.environ.get("HOME"):
        yield Path(os.environ["HOME"]) / ".cache" / "eplb"


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private_temporary_folder() -> Path | None:
    """Return a folder that only this user can write: compiled code is executed, so no other may plant it."""
    try:
        folder = Path(tempfile.gettempdir()) / f"eplb-cache-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return folder if ours else None


@contextmanager
def _numba_cache_in(folder: Path | None) -> Iterator[None]:
    """Point numba to `folder` while a kernel is decorated (it picks the place then), and back again after."""
    before = numba.config.CACHE_DIR
    if folder is not None:
        numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
