"""docs/engines/transformers.md holds what was tested."""

import json
import re
from pathlib import Path

import pytest

import eplb
from tests.recording.architectures import ARCHITECTURES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "engines" / "transformers.md"
MODEL = "Qwen/Qwen3-30B-A3B"
WORDS = ["which", "expert", "is", "busy", "now"]


def test_the_table_of_architectures_is_that_of_the_tests():
    """Each class, whether its generation is compared, and what it needs to be told."""
    rows = re.findall(
        r"^\| `(\w+)` \| .+? \| (yes)? ?\| ?(?:`(.+)`)? ?\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    expected = [(name, "yes" if a.generates else "", a.routers or "") for name, a in ARCHITECTURES.items()]
    assert rows == expected


def test_the_costs_are_those_of_the_newest_results():
    """Milliseconds of a forward, what hooks add to it, and their share."""
    newest = max((ROOT / "benchmarks" / "results").glob("*-recording.json"))
    rows, page = json.loads(newest.read_text(encoding="utf-8"))["rows"], PAGE.read_text(encoding="utf-8")
    assert newest.with_suffix(".md").name in page
    for row in rows:
        share = 100 * (row["ratio"] - 1)
        line = f"| {row['what']} | {row['plain_ms']:.2f} | {row['added_us']:.0f} | {share:.1f}% |"
        assert line in page


@pytest.fixture
def small_model(tmp_path):
    """A folder with a random model of the kind that the page names, and a tokenizer of a few words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<pad>", *WORDS])}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>").save_pretrained(tmp_path / "model")
    sizes = {"num_hidden_layers": 3, "hidden_size": 16, "moe_intermediate_size": 8, "num_experts": 8, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_experts_per_tok": 2, "vocab_size": 8}
    config = transformers.Qwen3MoeConfig(**sizes, **heads, pad_token_id=0, eos_token_id=None)
    model = transformers.Qwen3MoeForCausalLM(config)
    model.generation_config.suppress_tokens = [0]
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
def test_the_program_of_the_page_records(small_model, tmp_path, monkeypatch):
    """The prompts without padding are a window, though not a full one; 39 more tokens an answer are two."""
    (program,) = re.findall(r"^```python\n(.+?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert program.count(MODEL) == program.count("max_new_tokens=256") == 1
    program = program.replace(MODEL, str(small_model)).replace("max_new_tokens=256", "max_new_tokens=40")
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("which expert is busy\nis expert\n")
    exec(compile(program, PAGE.name, "exec"), {})
    trace = eplb.LoadTrace.load("served.npz")
    assert trace.labels == ("decode", "prefill", "decode") and trace.tokens.tolist() == [64, 6, 14]
    assert (trace.loads.sum(axis=2) == 2 * trace.tokens[:, None]).all()
