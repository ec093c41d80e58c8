"""`eplb` as a program: exit codes, one line of error, pipes, encodings, interrupts."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from eplb.cli.progress import COMPILING

SMALL = ("--ranks", 4, "--slots-per-rank", 3)


def assert_one_line(result):
    """The program ended with 2 and said why in one line."""
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not result.stdout


def test_bad_loads_end_in_one_line(program, tmp_path):
    """No traceback, and nothing written."""
    np.save(tmp_path / "a.npy", np.array([[1.0, np.nan]]))
    result = program("plan", tmp_path / "a.npy", *SMALL, "--out", tmp_path / "placement.json")
    assert_one_line(result)
    assert "nan at [0, 1]" in result.stderr and not (tmp_path / "placement.json").exists()


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (("plan",), "eplb plan"),
        (("plan", "a.npz", "--ranks", "x"), "eplb plan"),
        (("plan", "a", "--what"), "eplb plan"),
        (("advise", "a.npz"), "eplb advise"),
        (("nonsense",), "eplb"),
    ],
)
def test_wrong_usage_ends_in_one_line(program, args, command):
    """The same shape as any other error, and where the help of that command is."""
    result = program(*args)
    assert_one_line(result)
    assert result.stderr.endswith(f" See `{command} --help`.\n")


def test_json_is_all_there_is(program, loads_file):
    """A program can read stdout as it is."""
    result = program("plan", loads_file, *SMALL, "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["num_experts"] == 8


def test_a_plain_terminal_is_enough(program, loads_file, tmp_path):
    """ASCII alone, and names that are not ASCII do not end it."""
    file = loads_file.rename(tmp_path / "größe.npz")
    result = program("plan", file, *SMALL, env={**os.environ, "PYTHONIOENCODING": "ascii", "TERM": "dumb"})
    assert result.returncode == 0 and result.stdout.isascii()
    assert "###" in result.stdout


def test_a_reader_that_leaves_is_no_error(loads_file):
    """`eplb plan ... | head -1` prints one line and no complaint."""
    command = [sys.executable, "-m", "eplb", "plan", str(loads_file), *map(str, SMALL)]
    read, write = os.pipe()
    os.close(read)
    try:
        result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    finally:
        os.close(write)
    assert (result.returncode, result.stderr.replace(COMPILING + "\n", "")) == (1, "")


@pytest.mark.parametrize("args", [("versions",), ("plan", "{file}", *SMALL)])
def test_a_closed_stdout_is_as_a_reader_that_left(loads_file, args):
    """`eplb versions >&-` ends without a complaint."""
    words = [str(arg).format(file=loads_file) for arg in args]
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "eplb", *words]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr.replace(COMPILING + "\n", "")) == (1, "")


def test_an_interrupt_ends_a_long_plan(tmp_path):
    """Even while a compiled kernel runs; 130 is what shells expect."""
    np.save(tmp_path / "a.npy", np.random.default_rng(0).lognormal(0, 2, (2000, 256)))
    args = ("--ranks", "64", "--slots-per-rank", "5", "--effort", "thorough")
    command = [sys.executable, "-m", "eplb", "plan", str(tmp_path / "a.npy"), *args]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "interrupted"


def test_missing_libraries_are_named(program, tmp_path):
    """Without the extra there is one line with the command that installs it."""
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')")
    result = program(
        "versions", env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    )
    assert_one_line(result)
    assert 'pip install "eplb[cli]"' in result.stderr


def test_help_and_version(program):
    """Without arguments there is help; the version is one line."""
    assert "eplb demo" in program().stdout
    assert program("--version").stdout.startswith("eplb ")
    assert "Example: eplb plan loads.npz" in program("plan", "--help").stdout
