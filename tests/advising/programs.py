"""Sweeps as programs of their own, which can be killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.advising.doubles import random_trace

SWEEP = """
import resource
import sys
from eplb.advising import grid, sweep
from tests.advising.doubles import CHOICES
from tests.advising.programs import traces

if __name__ == "__main__":
    out, workers, most_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    found = sweep(traces(), grid(CHOICES), out, workers=workers)
    print(found.num_resumed, len(found.trials))
"""


def traces():
    """Return what these sweeps try their settings on."""
    return {"a": random_trace(), "b": random_trace(seed=1)}


def start(folder, out, workers=2, most_bytes=0, **streams):
    """Start a sweep in a session of its own, so that all of its processes can be found."""
    script = folder / "program.py"
    script.write_text(SWEEP)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, script, out, f"{workers}", f"{most_bytes}"]
    options = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True, **streams}
    return subprocess.Popen(command, env=environment, **options)


def finished(process):
    """Return the numbers that the sweep prints when it is done."""
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [int(number) for number in text.split()]


def error_of(folder, out, most_bytes):
    """Return what a sweep says that may write files of so many bytes, which are too few."""
    process = start(folder, out, 0, most_bytes, stderr=subprocess.PIPE)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 1
    return text


def wait_for_rows(process, journal, number):
    """Wait until the journal holds so many rows, or the sweep is done."""
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > number):
        time.sleep(0.005)


def members(session):
    """Return the processes of a session, by what Linux lists."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found.append(int(folder.name))
    return found


def kill_first(process):
    """Kill the process that was started, and nothing that it started."""
    process.kill()
    process.wait(timeout=60)
    process.stdout.close()


def kill_all(process):
    """Kill the whole session at once."""
    os.killpg(process.pid, signal.SIGKILL)
    kill_first(process)


def wait_for_end(session):
    """Wait until no process of the session is left, for as long as that may take a busy machine."""
    deadline = time.monotonic() + 60
    while members(session) and time.monotonic() < deadline:
        time.sleep(0.05)
