"""Where compiled code is kept, when nothing can be written, and when many compile at once."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import eplb

SOURCE = Path(eplb.__file__).parent
PRIVATE = f"eplb-cache-{os.getuid()}"

REPORT = """
import json, warnings
from eplb.kernels.compiling import cache_folder, kernel

def total(values):
    result = 0
    for value in values:
        result += value
    return result

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    total = kernel(total)
    also = kernel(lambda value: value + 1)
folder = cache_folder()
found = [total((1, 2, 3)), also(1)]
print(json.dumps({
    "found": found,
    "folder": folder and str(folder),
    "said": [str(warning.message) for warning in said],
    "hits": sum(total.stats.cache_hits.values()),
    "kept": sorted(path.name for path in folder.rglob("*.nbi")) if folder else [],
}))
"""
PRODUCT = """
import eplb, numpy as np
print(eplb.replicate_experts(np.array([[10.0, 40.0, 25.0]]), 6)[2].tolist())
"""


class Install:
    """A copy of the package whose own cache folder cannot be made, and an environment without any home."""

    def __init__(self, folder):
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        package = folder / "site" / "eplb"
        shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
        self.own_cache = package / "kernels" / "__pycache__"
        self.own_cache.write_text("a file where a folder should be: unwritable, also for root")
        self.script = folder / "report.py"
        self.script.write_text(REPORT)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(package.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self.temporary),
        }

    def start(self, *args, **environment):
        """Start a fresh interpreter."""
        merged = {**self.environment, **{name: str(value) for name, value in environment.items()}}
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, *map(str, args)], env=merged, stdout=pipe, stderr=pipe, text=True)

    def run(self, code, **environment):
        """Return both streams of `code` in a fresh interpreter."""
        return finish(self.start("-c", code, **environment))

    def report(self, **environment):
        """Compile two small kernels; return the folder of the compiled code, and what was said and kept."""
        return json.loads(finish(self.start(self.script, **environment))[0])


@pytest.fixture
def install(tmp_path):
    """Return a read-only, homeless install."""
    return Install(tmp_path)


def finish(process):
    """Return what a process printed on both streams."""
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, err
    return out.strip(), err.strip()


def assert_kept_in(report, folder):
    """The kernels work, and its compiled code lies below `folder`."""
    assert report["found"] == [6, 2]
    assert Path(report["folder"]).is_relative_to(folder)
    assert any("total" in name for name in report["kept"])


def assert_kept_nowhere(report):
    """The kernels work, nothing is kept, and one warning says so."""
    assert report["found"] == [6, 2]
    assert report["folder"] is None
    assert len(report["said"]) == 1
    assert "every process compiles anew" in report["said"][0]


def test_the_package_folder_is_used_where_it_can_be_written(install):
    """An ordinary install keeps its code beside its source, silently."""
    install.own_cache.unlink()
    report = install.report(HOME=install.folder)
    assert_kept_in(report, install.own_cache)
    assert report["said"] == []


def test_the_chosen_folder_comes_first(install):
    """NUMBA_CACHE_DIR is the user's word."""
    install.own_cache.unlink()
    report = install.report(NUMBA_CACHE_DIR=install.folder / "chosen", HOME=install.folder)
    assert_kept_in(report, install.folder / "chosen")
    assert report["said"] == []


@pytest.mark.parametrize(("variable", "below"), [("XDG_CACHE_HOME", "eplb"), ("HOME", ".cache/eplb")])
def test_a_read_only_install_uses_the_users_cache(install, variable, below):
    """Silently: such a folder lasts."""
    report = install.report(**{variable: install.folder / "user"})
    assert_kept_in(report, install.folder / "user" / below)
    assert report["said"] == []


def test_an_unwritable_choice_falls_through(install):
    """NUMBA_CACHE_DIR below a file cannot be made; the next folder is taken."""
    report = install.report(NUMBA_CACHE_DIR=install.own_cache / "below", HOME=install.folder / "home")
    assert_kept_in(report, install.folder / "home")


def test_without_home_a_private_temporary_folder_is_used(install):
    """Only its owner can read or write it, and one warning names it."""
    report = install.report()
    private = install.temporary / PRIVATE
    assert_kept_in(report, private)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert len(report["said"]) == 1
    assert str(private) in report["said"][0] and "NUMBA_CACHE_DIR" in report["said"][0]


def test_the_temporary_folder_serves_the_next_process(install):
    """What one process compiled there, the next loads."""
    assert [install.report()["hits"] for _ in range(2)] == [0, 1]


def test_without_any_folder_nothing_is_kept(install):
    """The last resort compiles in memory."""
    (install.temporary / PRIVATE).write_text("a file where the private folder would be")
    assert_kept_nowhere(install.report())


def test_without_any_folder_the_library_works_and_says_so_once(install):
    """A whole public function, as a user calls it, with its one warning on standard error."""
    (install.temporary / PRIVATE).write_text("a file where the private folder would be")
    out, err = install.run(PRODUCT)
    assert out == "[[1, 3, 2]]"
    assert err.count("RuntimeWarning") == 1


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707, 0o755])
def test_a_temporary_folder_open_to_others_is_refused(install, mode):
    """Compiled code is executed, so no other user may plant or watch it."""
    folder = install.temporary / PRIVATE
    folder.mkdir()
    folder.chmod(mode)
    assert_kept_nowhere(install.report())
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_temporary_folder_of_another_user_is_refused(install):
    """Its name can be guessed, so another may have made it first."""
    folder = install.temporary / PRIVATE
    folder.mkdir(mode=0o700)
    os.chown(folder, 12_345, 12_345)
    assert_kept_nowhere(install.report())


def test_a_link_to_a_folder_is_refused(install):
    """Another user may have planted the link and may turn it later."""
    elsewhere = install.folder / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (install.temporary / PRIVATE).symlink_to(elsewhere)
    assert_kept_nowhere(install.report())
    assert list(elsewhere.iterdir()) == []


def test_other_kernels_get_another_folder(install):
    """Numba looks at the outermost file alone; a changed inner kernel must not meet old code."""
    before = install.report(HOME=install.folder)["folder"]
    with (SOURCE / "kernels" / "heap.py").open() as heap:
        (Path(install.environment["PYTHONPATH"]) / "eplb" / "kernels" / "heap.py").write_text(
            heap.read() + "# changed\n"
        )
    after = install.report(HOME=install.folder)
    assert after["folder"] != before
    assert after["hits"] == 0


def test_numbas_own_cache_folder_is_given_back(install):
    """Other users of numba in the process keep the folder they had."""
    code = "import numba; print(numba.config.CACHE_DIR == 'theirs')"
    decorate = "from numba import config; config.CACHE_DIR = 'theirs'; import eplb.kernels.known.layers;"
    assert install.run(decorate + code, HOME=install.folder)[0] == "True"


def test_sixteen_processes_compile_at_once(install):
    """They race for one empty folder; all succeed in silence, and a seventeenth loads what they left."""
    chosen = install.folder / "cache"
    crowd = [install.start(install.script, NUMBA_CACHE_DIR=chosen) for _ in range(16)]
    for process in crowd:
        out, err = finish(process)
        assert err == ""
        assert_kept_in(json.loads(out), chosen)
    assert install.report(NUMBA_CACHE_DIR=chosen)["hits"] == 1
    assert not list(chosen.rglob("*.tmp*"))


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_damaged_compiled_code_is_thrown_away(install, ending):
    """A file cut short by a full disk or a power loss costs a warning and a compilation, no failure."""
    chosen = install.folder / "cache"
    expected = install.run(PRODUCT, NUMBA_CACHE_DIR=chosen)[0]
    for file in chosen.rglob("*" + ending):
        file.write_bytes(file.read_bytes()[:100])
    out, err = install.run(PRODUCT, NUMBA_CACHE_DIR=chosen)
    assert out == expected
    assert "damaged compiled code" in err
    assert install.run(PRODUCT, NUMBA_CACHE_DIR=chosen) == (expected, "")
