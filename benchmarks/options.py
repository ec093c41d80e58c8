"""The options that every measurement has."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser_for(about: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows `about`, with the options for the results."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--note", default="", help="a line for the head of the results")
    parser.add_argument("--out", type=Path, help="a .md file; the same as .json is written beside it")
    return parser
