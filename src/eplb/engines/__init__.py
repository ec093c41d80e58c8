"""The files of engines: loads in, placements in and out."""

from eplb.engines.conversion import Converted, convert, read, write
from eplb.engines.hints import Hints
from eplb.engines.validation import Verdict, validate

__all__ = ["Converted", "Hints", "Verdict", "convert", "read", "validate", "write"]
