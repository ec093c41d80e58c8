"""How the library behaves as a guest of other processes: imports, forks, many processes, one plan everywhere."""

import os
import subprocess
import sys
import textwrap

import pytest

PLAN = """
import os, threading, time
import eplb, numpy as np

def plan_hash(seed=0, **options):
    loads = np.random.default_rng(seed).lognormal(size=(58, 64))
    topology = eplb.Topology(num_ranks=8, slots_per_rank=9, num_nodes=2)
    return eplb.plan(loads, topology, **options).placement.hash

def all_hashes():
    grouped = [plan_hash(groups=groups, effort=effort) for groups in (1, 4) for effort in ("balanced", "fast")]
    return " ".join([*grouped, plan_hash(seed=7), plan_hash(effort="thorough")])
"""
FORK = """
import signal

def in_fork(work):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(120)  # ends a child that hangs
        os.write(write, str(work()).encode())
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    return os.read(read, 100_000).decode()
"""


def start(code, **environment):
    """Start a fresh interpreter on `code`; a variable that is None is unset."""
    merged = {**os.environ, "EPLB_NUM_THREADS": "2", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={name: value for name, value in merged.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, timeout=400):
    """Return what a process printed on both streams; kill it where it hangs."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, err
    return out.strip(), err.strip()


def run(code, **environment):
    """Return the standard output of `code` in a fresh interpreter."""
    return finish(start(code, **environment))[0]


@pytest.fixture(scope="module")
def compiled():
    """Fill the cache of compiled code before several processes race for it; return the expected hashes."""
    return finish(start(PLAN + "print(all_hashes())"))[0]


def test_import_loads_neither_compiler_nor_torch():
    """A program that never plans pays for neither."""
    code = "import sys, eplb; print([name for name in ('numba', 'llvmlite', 'torch', 'scipy') if name in sys.modules])"
    assert run(code) == "[]"


def test_planning_does_not_load_torch(compiled):
    """The core is numpy and numba alone."""
    assert run(PLAN + "plan_hash(); import sys; print('torch' in sys.modules)") == "False"


def test_import_leaves_the_process_as_it_was():
    """Logging, warnings, environment, signals, threads and numpy's generator are the host's."""
    state = """
    import logging, os, signal, threading, warnings
    import numpy as np

    def state():
        return (
            logging.root.level, list(logging.root.handlers), logging.getLogger("eplb").level,
            list(logging.getLogger("eplb").handlers), list(warnings.filters), dict(os.environ),
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], threading.active_count(),
            str(np.random.get_state()), np.geterr(), np.get_printoptions(),
        )

    before = state()
    import eplb
    print(state() == before)
    """
    assert run(state) == "True"


def test_a_plan_leaves_the_process_as_it_was(compiled):
    """Numpy's generator, the warnings, the environment and numba's cache folder stay the host's."""
    code = """
    import warnings
    import numba

    def state():
        return str(np.random.get_state()), np.geterr(), dict(os.environ), list(warnings.filters), numba.config.CACHE_DIR

    before = state()
    all_hashes()
    print(state() == before)
    """
    assert run(PLAN + textwrap.dedent(code)) == "True"


def test_threads_start_with_the_first_large_plan(compiled):
    """Before it there are none, and after it no more than asked for."""
    code = """
    def workers():
        return sum(thread.name.startswith("eplb") for thread in threading.enumerate())

    before = workers()
    plan_hash()
    print(before, 1 <= workers() <= 2)
    """
    assert run(PLAN + textwrap.dedent(code), EPLB_NUM_THREADS="3") == "0 True"


def test_an_interpreter_with_a_pool_ends_at_once(compiled):
    """The pool does not keep a program alive."""
    process = start(PLAN + "plan_hash(); print(threading.active_count() > 1)")
    assert finish(process, timeout=60)[0] == "True"


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_fork_plans_the_same(compiled, threads):
    """A child forked after a plan, whose pool lost its threads, makes a new one and reaches the same plan."""
    code = PLAN + FORK + "print(all_hashes()); print(in_fork(all_hashes)); print(in_fork(lambda: in_fork(all_hashes)))"
    assert run(code, EPLB_NUM_THREADS=threads).splitlines() == [compiled] * 3


def test_a_fork_before_the_first_plan_plans_the_same(compiled):
    """The compiled code is then first loaded in the child."""
    assert run(PLAN + FORK + "print(in_fork(all_hashes))") == compiled


def test_a_fork_while_others_plan_does_not_hang(compiled):
    """Whatever locks other threads hold at the fork, the child plans."""
    code = """
    expected, done = plan_hash(), threading.Event()

    def plan_on():
        while not done.is_set():
            plan_hash(seed=3)

    others = [threading.Thread(target=plan_on) for _ in range(3)]
    for other in others:
        other.start()
    found = [in_fork(plan_hash) for _ in range(10)]
    done.set()
    print(found == [expected] * 10)
    """
    out, _ = finish(start(PLAN + FORK + textwrap.dedent(code)), timeout=120)  # newer Pythons warn of such forks
    assert out == "True"


def test_every_rank_reaches_the_same_plan(compiled):
    """Threads, hash seeds and the presence of others change no bit."""
    ranks = [
        start(PLAN + "print(all_hashes())", EPLB_NUM_THREADS=threads, PYTHONHASHSEED=seed)
        for threads, seed in (("1", "0"), ("2", "1"), ("3", "2"), (None, "random"))
    ]
    assert {finish(rank)[0] for rank in ranks} == {compiled}


def test_equal_plans_in_one_process_are_equal(compiled):
    """The number of threads may change between plans."""
    code = """
    found = set()
    for threads in ("1", "2", "3", "5", "2"):
        os.environ["EPLB_NUM_THREADS"] = threads
        found.add(all_hashes())
    print(*found)
    """
    assert run(PLAN + textwrap.dedent(code)) == compiled


@pytest.mark.slow
def test_another_processor_reaches_the_same_plan(compiled, tmp_path):
    """Code compiled without the vector units of this processor plans the same, bit for bit."""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert run(PLAN + "print(all_hashes())", **plain) == compiled


def test_sixteen_processes_that_start_cold_at_once(tmp_path):
    """One compiles while the others wait and load what it left; all reach the same plan."""
    code = PLAN + "print(plan_hash(), time.process_time() > 8)"
    crowd = [start(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(16)]
    plans, compiled = zip(*(finish(process)[0].split() for process in crowd), strict=True)
    assert len(set(plans)) == 1
    assert compiled.count("True") == 1
