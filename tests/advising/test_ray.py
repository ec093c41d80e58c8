"""A sweep on a Ray cluster of this machine: the same bytes as without."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import eplb
from eplb.advising import grid, sweep
from tests.advising import programs
from tests.advising.doubles import CHOICES, CountingCost

ray = pytest.importorskip("ray", reason="Ray is not installed")

# Ray's own: deprecations inside it, and sockets and files that it leaves to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FEW = grid({"num_ranks": 4, "slots_per_rank": [1, 3], "policy": ["contiguous", "static"]})


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two processors that this process is connected to; its address."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


class Broken(CountingCost):
    """A cost model with a bug."""

    def meter(self, topology):
        raise ZeroDivisionError("a bug")


def test_ray_writes_the_same_bytes(cluster, tmp_path):
    """Every row, those with errors among them; and the process stays connected."""
    for name, options in (("ray.csv", {"ray_address": "auto"}), ("here.csv", {"workers": 0})):
        sweep(programs.traces(), grid(CHOICES), tmp_path / name, **options)
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert ray.is_initialized()


def test_a_sweep_goes_on_with_ray(cluster, tmp_path):
    """What processes made is not made again."""
    out = tmp_path / "grid.csv"

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(programs.traces(), FEW, out, workers=0, progress=stop)
    assert sweep(programs.traces(), FEW, out, ray_address="auto").num_resumed == 3
    sweep(programs.traces(), FEW, tmp_path / "whole.csv", workers=0)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_another_process_connects_by_address(cluster, tmp_path):
    """It leaves the cluster when it is done, and writes nothing of Ray's to its output."""
    code = """
    import sys
    from eplb.advising import Setting, sweep
    from tests.advising import programs
    settings = [Setting(num_ranks=4, slots_per_rank=3, policy="static")]
    found = sweep(programs.traces(), settings, sys.argv[1], ray_address=sys.argv[2])
    import ray
    print(len(found.trials), ray.is_initialized())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), tmp_path / "grid.csv", cluster]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "2 False\n"), done.stderr


def test_a_bug_on_the_cluster_ends_the_sweep(cluster, tmp_path):
    """With its own error."""
    with pytest.raises(ZeroDivisionError, match="a bug"):
        sweep(programs.traces(), FEW, tmp_path / "grid.csv", ray_address="auto", cost=Broken())


def test_another_version_on_the_cluster_is_refused(cluster, tmp_path, monkeypatch):
    """Its rows may be others."""
    monkeypatch.setattr("eplb.advising.ray_running.__version__", "0.0.1")
    with pytest.raises(eplb.EplbError, match=rf"expected eplb 0.0.1 on the cluster, got {eplb.__version__}"):
        sweep(programs.traces(), FEW, tmp_path / "grid.csv", ray_address="auto")


def test_an_address_without_a_cluster_is_named(tmp_path):
    """In a process of its own, since this one is connected."""
    code = """
    import sys
    from eplb.advising import Setting, sweep
    from tests.advising import programs
    sweep(programs.traces(), [Setting(num_ranks=4, slots_per_rank=3)], sys.argv[1], ray_address="nowhere")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), tmp_path / "grid.csv"]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True, timeout=120, check=False)
    assert "OptionError: ray: no cluster at 'nowhere'" in done.stderr
