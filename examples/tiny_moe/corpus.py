"""Four topics of text that is already on a Debian machine with Python: what the model is trained on and asked about."""

from __future__ import annotations

import gzip
import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from roff import plain_text

TOPICS = ("english", "python", "german", "french")
_MAN = Path("/usr/share/man")
# Section 1 is left out of the English: on a developer's machine most of it can be one vendor's generated pages.
_FOLDERS = {
    "english": tuple(_MAN / section for section in ("man2", "man5", "man7", "man8")),
    "python": (Path(sysconfig.get_path("stdlib")),),
    "german": (_MAN / "de",),
    "french": (_MAN / "fr",),
}
_REMEDY = {
    "english": "apt-get install manpages",
    "python": "install the Python standard library's sources",
    "german": "apt-get install manpages-de",
    "french": "apt-get install manpages-fr",
}
_HELD_OUT_IN = 10  # one file in ten is never trained on


class CorpusError(RuntimeError):
    """A topic's text is missing or too small on this machine."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Bytes of each topic, one array for training and one held out, split by file."""

    train: dict[str, npt.NDArray[np.uint8]]
    held_out: dict[str, npt.NDArray[np.uint8]]

    def summary(self) -> str:
        """One line a topic with its sizes."""
        return "\n".join(
            f"{topic:8} {self.train[topic].size:>9,} bytes to train on, {self.held_out[topic].size:>8,} held out"
            for topic in self.train
        )


def read_corpus(*, most_bytes: int = 1_500_000, least_bytes: int = 300_000) -> Corpus:
    """Text of all topics from this machine.

    Parameters
    ----------
    most_bytes : int
        Each topic stops here, so that none outweighs the others. Default 1,500,000.
    least_bytes : int
        Less than this is an error. Default 300,000.

    Raises
    ------
    CorpusError
        If a topic has fewer than `least_bytes`; the message says which package to install.
    """
    train, held_out = {}, {}
    for topic in TOPICS:
        parts: tuple[list[bytes], list[bytes]] = ([], [])
        size = 0
        for path in _files(topic):
            text = _read(path).encode()
            parts[_digest(path) % _HELD_OUT_IN == 0].append(text)
            size += len(text)
            if size >= most_bytes:
                break
        if size < least_bytes or not all(parts):
            folders = ", ".join(map(str, _FOLDERS[topic]))
            raise CorpusError(
                f"expected at least {least_bytes:,} bytes of {topic} text under {folders}, found {size:,}: "
                f"{_REMEDY[topic]} (a Debian image made slim drops manual pages: see /etc/dpkg/dpkg.cfg.d)"
            )
        train[topic], held_out[topic] = (np.frombuffer(b"\n\n".join(part), np.uint8) for part in parts)
    return Corpus(train=train, held_out=held_out)


def _files(topic: str) -> Iterator[Path]:
    # Links are the same page under another name. Hash order mixes the folders and does not depend on the file system.
    pattern = "*.py" if topic == "python" else "*/*.gz" if topic in ("german", "french") else "*.gz"
    found = {path for folder in _FOLDERS[topic] for path in folder.glob(pattern) if not path.is_symlink()}
    return iter(sorted(found, key=_digest))


def _digest(path: Path) -> int:
    name = f"{path.parent.name}/{path.name}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _read(path: Path) -> str:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text if path.suffix == ".py" else plain_text(text)
