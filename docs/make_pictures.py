"""Draw docs/pictures/balance.svg from the loads that come with the package.

python docs/make_pictures.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import eplb
from eplb.baseline import contiguous_rank_loads

HERE = Path(__file__).parent
TRACE = HERE.parent / "src" / "eplb" / "data" / "tiny_moe.npz"
TOPOLOGY = eplb.Topology(num_ranks=8, slots_per_rank=5)

# Middle tones on no background, readable on white and on black.
INK, BEFORE, AFTER, BOUND = "#717c88", "#d97b34", "#3d86d1", "#2f9e63"
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP, FLOOR = 720, 292, 20, 66, 310, 50, 240
BAR, STRIDE = 28, 39


def main(args: list[str] | None = None) -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "pictures", help="folder (default docs/pictures)")
    out = parser.parse_args(args).out
    out.mkdir(parents=True, exist_ok=True)
    (out / "balance.svg").write_text(balance(eplb.LoadTrace.load(TRACE)), encoding="utf-8")


def balance(trace: eplb.LoadTrace) -> str:
    """Return the rank loads of the layer with the most to gain, before and after a plan, with the bound, as SVG."""
    mean = trace.loads.sum(axis=0, dtype=np.float64) / trace.num_windows
    plan = eplb.plan(mean, TOPOLOGY)
    before = contiguous_rank_loads(mean, TOPOLOGY)
    after = eplb.evaluate(plan.placement, mean).rank_loads[0]
    layers = plan.certificate.per_layer
    layer = int(np.argmax(before.max(axis=1) - layers.mean_load))
    scale = (FLOOR - TOP) / before[layer].max()
    bound = float(layers.lower_bound[layer])
    right = LEFT + PANEL + GAP
    what = f"Tokens of each rank in layer {trace.layer_ids[layer]}, mean of {trace.num_windows} windows"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{what}, before and after planning" '
            'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13">',
            _text(LEFT, 18, what, size=14),
            *_panel(LEFT, "no plan: experts in order of their ids", before[layer], scale, BEFORE),
            *_panel(right, "planned: 8 ranks x 5 slots, 8 slots redundant", after[layer], scale, AFTER),
            *_bound_line(right, bound, scale),
            "</svg>",
            "",
        ]
    )


def _panel(x: int, title: str, loads: NDArray[np.float64], scale: float, colour: str) -> list[str]:
    """Return a title, one bar a rank, and the number on the largest."""
    lines = [_text(x, 42, title)]
    for rank, load in enumerate(loads):
        left, height = x + rank * STRIDE, load * scale
        lines.append(f'<rect x="{left}" y="{FLOOR - height:.1f}" width="{BAR}" height="{height:.1f}" fill="{colour}"/>')
        lines.append(_text(left + BAR / 2, FLOOR + 17, str(rank), anchor="middle"))
    largest = int(np.argmax(loads))
    top = FLOOR - loads[largest] * scale - 5
    lines.append(_text(x + largest * STRIDE + BAR / 2, top, f"{loads[largest]:.1f}", anchor="middle"))
    lines.append(_text(x, FLOOR + 40, f"rank; balancedness {loads.mean() / loads.max():.4f}"))
    return lines


def _bound_line(right: int, bound: float, scale: float) -> list[str]:
    """Return a line through both panels at a load that no plan gets below."""
    y = FLOOR - bound * scale
    return [
        f'<line x1="{LEFT - 8}" x2="{right + PANEL + 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="{BOUND}" '
        'stroke-width="2" stroke-dasharray="7 4"/>',
        _text(right + PANEL + 8, y - 24, f"no plan gets its largest below {bound:.1f}", colour=BOUND, anchor="end"),
    ]


def _text(x: float, y: float, text: str, *, size: int = 13, colour: str = INK, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{text}</text>'


if __name__ == "__main__":
    main()
