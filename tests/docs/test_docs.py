"""What the documents show is run, and what they point to is there."""

import doctest
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import eplb
from eplb.planning.effort import EFFORTS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^\$ (eplb .*)$", re.MULTILINE)


def page_name(page):
    """Return the name of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """Return the fenced blocks of `page` in `language`."""
    return [text for found, text in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def commands():
    """Return every `$ eplb ...` of the documents with the output that they show."""
    found = []
    for page in PAGES:
        for block in blocks(page, "console"):
            parts = COMMAND.split(block)
            found += [(page_name(page), *pair) for pair in zip(parts[1::2], parts[2::2], strict=True)]
    return found


def settled(output):
    """Return `output` without times and trailing blanks; milliseconds are the last column of a table."""
    lines, in_table = [], False
    for line in re.sub(r"in \d+\.\d+ s", "in 0.00 s", output).splitlines():
        text = line.rstrip()
        lines.append(re.sub(r" +[\d,]+\.\d$", "", text) if in_table else text)
        in_table = bool(text) and (in_table or text.endswith(" ms"))
    return "\n".join(lines).strip("\n")


def script(name):
    """Return a script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page):
    """Return the anchors of the headings of `page`, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(">>>" in b for b in blocks(page, "python"))], ids=page_name
)
def test_examples_print_what_the_page_shows(page, monkeypatch):
    """Every Python example of a page runs, one after another, from the root of the repository."""
    monkeypatch.chdir(ROOT)
    text = "\n".join(blocks(page, "python"))
    runner = doctest.DocTestRunner()
    runner.run(doctest.DocTestParser().get_doctest(text, {}, page_name(page), str(page), 0))
    assert runner.summarize(verbose=False) == (0, runner.tries)
    assert runner.tries > 0


@pytest.mark.parametrize(("page", "command", "shown"), commands(), ids=[found[1] for found in commands()])
def test_commands_print_what_the_page_shows(page, command, shown):
    """The output of a command is that of the page, times aside."""
    program = [sys.executable, "-m", *shlex.split(command)]
    plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "EPLB_NUM_THREADS")}
    environment = {**plain, "COLUMNS": "80", "PYTHONUTF8": "1"}
    done = subprocess.run(
        program, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=True
    )
    assert settled(done.stdout) == settled(shown)


def test_the_readme_shows_an_example_and_a_command():
    """The two tests before this one have something to run."""
    assert blocks(ROOT / "README.md", "python")
    assert any(page == "README.md" for page, _, _ in commands())


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_lead_somewhere(page):
    """Every link to a file of the repository, and to a heading in it, resolves."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_named_files_and_targets_exist(page):
    """Scripts, test files and make targets that a page names in code are there."""
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"(?:benchmarks|tests|docs|examples|src)/[\w/]+\.(?:py|npz|md)", text):
        assert (ROOT / path).is_file(), path
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_the_pictures_are_what_their_script_draws(tmp_path):
    """The same bytes come out again."""
    script("make_pictures").main(["--out", str(tmp_path)])
    pictures = sorted(path.name for path in (ROOT / "docs" / "pictures").iterdir())
    assert pictures == sorted(path.name for path in tmp_path.iterdir())
    for name in pictures:
        assert (tmp_path / name).read_bytes() == (ROOT / "docs" / "pictures" / name).read_bytes(), name


@pytest.mark.parametrize("page", script("make_tables").PAGES)
def test_the_tables_are_those_of_the_newest_results(page):
    """A page would not change if its tables were written again."""
    text, tables = (ROOT / page).read_text(encoding="utf-8"), script("make_tables")
    assert tables.MARKER.search(text)
    assert tables.with_tables(text, (ROOT / page).parent) == text


def test_structure_lists_every_file_of_the_package():
    """docs/structure.md has a line for each file under src/eplb, and for no other."""
    source = ROOT / "src" / "eplb"
    files = {
        p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    package = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8").partition("## Beside the package")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", package, re.MULTILINE)) == files


def test_planning_tells_the_efforts_as_they_are():
    """The table of efforts in docs/planning.md holds the planner's numbers."""
    text = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    for name, effort in EFFORTS.items():
        (cells,) = re.findall(rf"^\| `{name}` \| (.+) \|$", text, re.MULTILINE)
        target, *limits = (cell.replace(",", "").strip() for cell in cells.split("|"))
        limits_of = (
            *("max_steps", "max_recounts", "max_restarts", "max_choices", "max_visits"),
            *("max_exchanges", "max_tries", "max_splits"),
        )
        assert float(target.rstrip("%") or 0) / 100 == pytest.approx(effort.tolerance)
        assert [int(limit) for limit in limits] == [getattr(effort, limit) for limit in limits_of]


def test_the_licence_is_whole():
    """LICENSE holds the licence that pyproject.toml names, to its last line."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "limitations under the License." in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_changelog_holds_this_version():
    """The newest entry is the version of the package."""
    versions = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == eplb.__version__
