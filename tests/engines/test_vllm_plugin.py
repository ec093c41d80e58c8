"""The plug-in as vLLM loads it: off unless asked for, in place once, compiled before it is needed."""

import importlib.metadata
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eplb import MissingDependencyError, OptionError
from eplb.engines import vllm
from tests.engines.vllm_double import (
    AbstractEplbPolicy,
    DefaultEplbPolicy,
    ask,
    assert_placed,
    first_slots,
    install,
    loads,
)

ROOT = Path(__file__).parents[2]
COMPILES_NOTHING = """
import torch
import numba.core.event as event
from eplb.engines import vllm
from tests.engines.vllm_double import *

class Patch:
    def setitem(self, where, name, value):
        where[name] = value

policies = install(Patch())
vllm.plug_in()
compiled = []
class Listener(event.Listener):
    def on_start(self, found):
        compiled.append(str(found.data))
    def on_end(self, found):
        pass
event.register("numba:compile", Listener())
policy, slots = policies["default"], first_slots(4)
for seed in range(4):
    slots = ask(policy, loads(seed), slots, 4)
slots = ask(policy, loads(4), joined(slots, 5), 5)
slots = ask(policy, loads(5), slots[:, :15], 4)
for seed in range(3):
    slots = ask(policy, loads(seed).float(), slots, 4, groups=4, nodes=2)
print(compiled)
"""


@pytest.fixture
def policies(monkeypatch):
    """The policies of vLLM by name, and an environment without our variables."""
    for name in [name for name in os.environ if name.startswith("EPLB_") and name != "EPLB_NUM_THREADS"]:
        monkeypatch.delenv(name)
    return install(monkeypatch)


def test_the_entry_point_is_vllms():
    """So vLLM finds the plug-in by the metadata of the package."""
    (entry,) = [e for e in importlib.metadata.entry_points(group="vllm.general_plugins") if e.name == "eplb"]
    assert entry.load() is vllm.plug_in


@pytest.mark.parametrize("value", [None, "", "0"])
def test_installed_it_changes_nothing(policies, monkeypatch, value):
    """Unless it is switched on, vLLM keeps its policy, and nothing is imported."""
    if value is not None:
        monkeypatch.setenv("EPLB_VLLM", value)
    monkeypatch.setenv("EPLB_EFFORT", "nonsense")
    vllm.plug_in()
    assert policies == {"default": DefaultEplbPolicy}


def test_switched_on_it_plans(policies, monkeypatch):
    """The policy keeps its name, derives from vLLM's class, and plans."""
    monkeypatch.setenv("EPLB_VLLM", "1")
    vllm.plug_in()
    assert list(policies) == ["default"] and issubclass(policies["default"], AbstractEplbPolicy)
    assert_placed(ask(policies["default"], loads(0), first_slots(4), 4), 4)


def test_a_second_call_changes_and_says_nothing(policies, monkeypatch, caplog):
    """Plug-ins may be loaded several times."""
    monkeypatch.setenv("EPLB_VLLM", "1")
    caplog.set_level(logging.INFO)
    vllm.plug_in()
    first = policies["default"]
    vllm.plug_in()
    assert policies["default"] is first
    assert [r.name for r in caplog.records if "plans vLLM" in r.getMessage()] == ["vllm.plugins.eplb"]


def test_it_can_be_taken_out(policies, monkeypatch):
    """Then vLLM has its own policy again; twice does no harm."""
    monkeypatch.setenv("EPLB_VLLM", "1")
    vllm.plug_in()
    vllm.plug_out()
    vllm.plug_out()
    assert policies == {"default": DefaultEplbPolicy}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("EPLB_VLLM", "yes", "EPLB_VLLM: expected 1 .* or 0"),
        ("EPLB_EFFORT", "much", "EPLB_EFFORT: expected one of fast, balanced, thorough, got 'much'"),
        ("EPLB_FORECAST", "oracle", "EPLB_FORECAST: expected one of last, mean"),
        ("EPLB_HISTORY", "0", "EPLB_HISTORY: expected 1 to 256"),
        ("EPLB_HISTORY", "few", "EPLB_HISTORY: expected an integer, got 'few'"),
        ("EPLB_MAX_MOVES_SHARE", "10%", "EPLB_MAX_MOVES_SHARE: expected a number, got '10%'"),
        ("EPLB_MAX_MOVES_SHARE", "nan", "EPLB_MAX_MOVES_SHARE: expected a share above 0"),
    ],
)
def test_variables_are_checked_when_vllm_starts(policies, monkeypatch, name, value, message):
    """The error names the variable and what there is; vLLM keeps its policy."""
    monkeypatch.setenv("EPLB_VLLM", "1")
    monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=message):
        vllm.plug_in()
    assert policies == {"default": DefaultEplbPolicy}


def test_options_reach_the_planner(policies, monkeypatch):
    """Each variable has its option."""
    for name, value in (("VLLM", "1"), ("EFFORT", "fast"), ("HISTORY", "3"), ("MAX_MOVES_SHARE", ".5")):
        monkeypatch.setenv(f"EPLB_{name}", value)
    vllm.plug_in()
    options = policies["default"].eplb_planner.options
    assert (options.effort, options.history, options.max_moves_share, options.forecast) == ("fast", 3, 0.5, "auto")


def test_a_misspelt_variable_is_named(policies, monkeypatch, caplog):
    """The log lists what there is."""
    monkeypatch.setenv("EPLB_VLLM", "1")
    monkeypatch.setenv("EPLB_SPLIT", "weighted")
    vllm.plug_in()
    assert "EPLB_SPLIT means nothing; there are EPLB_VLLM" in caplog.text


def test_without_vllm_the_error_says_so(policies, monkeypatch):
    """The message holds the install command."""
    monkeypatch.setenv("EPLB_VLLM", "1")
    monkeypatch.setitem(sys.modules, "vllm.distributed.eplb.policy", None)
    with pytest.raises(MissingDependencyError, match="pip install 'vllm=="):
        vllm.plug_in()


def test_another_signature_is_refused(monkeypatch):
    """A vLLM whose policies are asked otherwise is not served with guesses."""

    class Other:
        @classmethod
        def rebalance_experts(cls, loads, slots):
            raise NotImplementedError

    policies = install(monkeypatch, Other)
    monkeypatch.setenv("EPLB_VLLM", "1")
    with pytest.raises(MissingDependencyError, match="rebalance_experts takes loads, slots"):
        vllm.plug_in()
    assert policies == {"default": DefaultEplbPolicy}


def test_nothing_compiles_while_serving():
    """All that planning needs is compiled when vLLM loads the plug-in."""
    environment = {**os.environ, "EPLB_VLLM": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILES_NOTHING], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
