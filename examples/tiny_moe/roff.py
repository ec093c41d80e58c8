"""Manual-page markup (roff, mdoc) to plain text, simply: what is lost is layout, never words of a sentence."""

from __future__ import annotations

import re
import unicodedata

# Requests whose argument is not prose: conditions, definitions, index entries, spacing, tabs, translators' leftovers.
_NO_PROSE = frozenset((
    "ad", "as", "br", "ce", "de", "ds", "el", "fi", "ft", "hy", "ie", "if", "ig", "in", "ll", "na", "ne", "nf",
    "nh", "nr", "pc", "pl", "ps", "rm", "rr", "so", "sp", "ta", "tr", "ti", "vs", "Dd", "Dt", "IX", "Os", "TH",
))  # fmt: skip
_NAMED = {
    "lq": '"', "rq": '"', 'L"': '"', 'R"': '"', "dq": '"', "Bq": "„", "bq": "\u201a", "Fo": "«", "Fc": "»",
    "oq": "'", "cq": "'", "aq": "'", "Aq": "'", "em": "--", "--": "--", "en": "-", "bu": "*", "ss": "ß", "oe": "œ",
}  # fmt: skip
_COMBINING = {":": "\u0308", "'": "\u0301", "`": "\u0300", "^": "\u0302", ",": "\u0327", "~": "\u0303"}
_PLAIN = {"-": "-", " ": " ", "~": " ", "e": "\\", "'": "'"}  # any other one-letter escape is a spacing hint
_FONT = re.compile(r"\\f(?:\(..|\[[^]]*\]|.)|\\s[+-]?\d+")
_SPECIAL = re.compile(r"\\\*?\((..)|\\\*?\[([^]]+)\]")
_LETTER = re.compile(r"\\\*?(.)")
_INDENT = re.compile(r"^([IT]P .*?)\s+\d+$")
_BLANKS = re.compile(r"\n{3,}")


def plain_text(roff: str) -> str:
    r"""Text of a manual page without its markup.

    Examples
    --------
    >>> print(plain_text('.SH NAME\n.BR true " (1)"\n\\fBtrue\\fP \\- do nothing, tr\\(`es bien'))
    NAME
    true  (1)
    true - do nothing, très bien
    """
    lines = (_plain_line(line) for line in roff.splitlines())
    return _BLANKS.sub("\n\n", "\n".join(line for line in lines if line is not None))


def _plain_line(line: str) -> str | None:
    if line.startswith((".", "'")):
        request, _, argument = _INDENT.sub(r"\1", line[1:].strip()).partition(" ")
        line = argument.replace(' "', " ").strip('" ')
        if not line or request.startswith(("\\", '"')) or request in _NO_PROSE:
            return None
    line = _SPECIAL.sub(lambda found: _special(found[1] or found[2]), _FONT.sub("", line))
    return _LETTER.sub(lambda found: _PLAIN.get(found[1], ""), line)


def _special(name: str) -> str:
    if len(name) == 2 and name[0] in _COMBINING and name[1].isalpha():
        return unicodedata.normalize("NFC", name[1] + _COMBINING[name[0]])
    return _NAMED.get(name, "")
