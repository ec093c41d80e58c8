"""All formats by name, and which of them a file or folder has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eplb.engines import megatron, own, sglang, tensorrt_llm, vllm_ascend
from eplb.engines.contents import Contents, contents_of
from eplb.engines.formats import LOADS, Format
from eplb.engines.rules import Rules
from eplb.errors import FileFormatError, OptionError
from eplb.files import read_json

FORMATS = {
    found.name: found for found in (own.FORMAT, sglang.FORMAT, tensorrt_llm.FORMAT, vllm_ascend.FORMAT, megatron.FORMAT)
}
RULES = {
    **{name: found.rules for name, found in FORMATS.items() if found.rules is not None},
    "vllm": Rules(engine="vLLM", fewest_ranks=2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognized:
    """What a path holds: a format, and loads or a placement in it."""

    contents: Contents
    format: Format
    kind: str


def format_named(name: str) -> Format:
    """Return the format called `name`.

    Raises
    ------
    OptionError
        If there is none.
    """
    if name not in FORMATS:
        raise OptionError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
    return FORMATS[name]


def rules_of(name: str) -> Rules:
    """Return what the engine called `name` asks of a placement.

    Raises
    ------
    OptionError
        If there is no such engine.
    """
    if name not in RULES:
        raise OptionError(f"engine: expected one of {', '.join(RULES)}, got {name!r}")
    return RULES[name]


def recognized(path: Path, name: str | None = None) -> Recognized:
    """Return what is at `path`, by its content; `name` says which format is meant where several are there.

    Raises
    ------
    FileFormatError
        If nothing is there, or nothing that is known.
    OptionError
        If a folder holds several formats, or there is no format `name`.
    """
    contents = contents_of(path)
    meant = FORMATS.values() if name is None else [format_named(name)]
    found = [(known, kind) for known in meant if (kind := known.kind_of(contents))]
    if len(found) > 1:
        raise OptionError(f"holds files of {' and '.join(known.title for known, _ in found)}; say which: --from NAME")
    if not found:
        raise FileFormatError(_unknown(contents, name))
    return Recognized(contents=contents, format=found[0][0], kind=found[0][1])


def _unknown(contents: Contents, name: str | None) -> str:
    """Return what to say of contents that nobody knows; for what was to be JSON, where it breaks."""
    if contents.container == "text" and contents.text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        read_json(contents.path)
    if contents.container in ("json", "torch", "lines") and contents.keys:
        names = ", ".join(repr(key[:40]) for key in sorted(contents.keys)[:8])
        holds = f"an object with {names}"
    elif contents.container == "folder":
        holds = "a folder without files that are known"
    else:
        holds = {"text": "a text", "archive": "an archive"}.get(contents.container, "something else")
    wanted = f"a file of {FORMATS[name].title}" if name is not None else "loads or a placement of a known format"
    return f"expected {wanted}, got {holds}; known are {', '.join(FORMATS)}"


def format_for(path: Path, kind: str) -> Format:
    """Return the format that the ending of a new file's name tells, this library's own where several have it.

    Raises
    ------
    OptionError
        If the ending tells none.
    """
    for known in FORMATS.values():
        if path.suffix.lower() in known.endings(kind):
            return known
    what = LOADS if kind == LOADS else "placements"
    raise OptionError(f"{path}: the ending tells no format of {what}; say it: --to NAME")
