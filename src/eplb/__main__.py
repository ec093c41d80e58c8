"""`python -m eplb` is `eplb`."""

from eplb.cli import run

if __name__ == "__main__":
    raise SystemExit(run())
