"""docs/engines/transformers.md holds what was tested."""

import re
from pathlib import Path

from tests.recording.architectures import ARCHITECTURES

PAGE = Path(__file__).parents[2] / "docs" / "engines" / "transformers.md"


def test_the_table_of_architectures_is_that_of_the_tests():
    """Each class, whether its generation is compared, and what it needs to be told."""
    rows = re.findall(
        r"^\| `(\w+)` \| .+? \| (yes)? ?\| ?(?:`(.+)`)? ?\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    expected = [(name, "yes" if a.generates else "", a.routers or "") for name, a in ARCHITECTURES.items()]
    assert rows == expected
