"""Draw the pictures in docs/pictures from the loads that come with the package.

balance.svg: rank loads of a layer. windows.svg, frontier.svg: what `eplb report` shows of a replay.

python docs/make_pictures.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import eplb
from eplb.baseline import contiguous_rank_loads
from eplb.replay import POLICIES, policy_named
from eplb.report import Findings, examine

HERE = Path(__file__).parent
TRACE = HERE.parent / "src" / "eplb" / "data" / "tiny_moe.npz"
TOPOLOGY = eplb.Topology(num_ranks=8, slots_per_rank=5)

# Middle tones on no background, readable on white and on black.
INK, BEFORE, AFTER, BOUND = "#717c88", "#d97b34", "#3d86d1", "#2f9e63"
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP, FLOOR = 720, 292, 20, 66, 310, 50, 240
BAR, STRIDE = 28, 39
LINES = {  # colour, dashes
    "contiguous": (INK, "2 4"),
    "static": (BEFORE, "9 4 2 4"),
    "deepseek": ("#b06fa8", "10 5"),
    "eplb": (AFTER, ""),
    "oracle": (BOUND, "5 4"),
}
PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_FLOOR, LEAST = 52, 560, 56, 250, 0.5
TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)


def main(args: list[str] | None = None) -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "pictures", help="folder (default docs/pictures)")
    out = parser.parse_args(args).out
    out.mkdir(parents=True, exist_ok=True)
    trace = eplb.LoadTrace.load(TRACE)
    found = examine(trace, TOPOLOGY, [policy_named(name) for name in POLICIES])
    for name, text in (("balance", balance(trace)), ("windows", windows(found)), ("frontier", frontier(found))):
        (out / f"{name}.svg").write_text(text, encoding="utf-8")


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
    return _picture(
        f"{what}, before and after planning",
        [
            _text(LEFT, 18, what, size=14),
            *_panel(LEFT, "no plan: experts in order of their ids", before[layer], scale, BEFORE),
            *_panel(right, "planned: 8 ranks x 5 slots, 8 slots redundant", after[layer], scale, AFTER),
            *_bound_line(right, bound, scale),
        ],
    )


def windows(found: Findings) -> str:
    """Return the balancedness of every window that no plan had seen, a line a policy, as SVG."""
    first, count = found.bins.first, found.bins.num_windows
    what = "Balancedness of windows that no plan had seen"
    stride = (PLOT_RIGHT - PLOT_LEFT) / (count - 1)
    lines = [_text(LEFT, 18, what, size=14), *_levels()]
    names = []
    for policy in found.policies:
        points = [(PLOT_LEFT + i * stride, _height(float(value))) for i, value in enumerate(policy.balancedness)]
        lines.append(_line(points, policy.name))
        names.append((points[-1][1], policy.name))
    lines += _names(names)
    lines += [
        _text(PLOT_LEFT + (window - first) * stride, PLOT_FLOOR + 17, str(window), anchor="middle")
        for window in range(10, first + count, 10)
    ]
    lines.append(_text(LEFT, PLOT_FLOOR + 38, "window; a plan before each, 8 ranks x 5 slots"))
    return _picture(f"{what}, by policy", lines)


def frontier(found: Findings) -> str:
    """Return mean balancedness against moves, a point a policy and budget, as SVG; the scale is a square root."""
    what = "Balancedness against the slots that a window moves"
    lines = [_text(LEFT, 18, what, size=14), *_levels()]
    points = [point for point in found.frontier if not point.sees_future]
    shares = {id(point): point.moves_per_window / found.num_slots for point in points}
    for name in dict.fromkeys(point.policy for point in points):
        own = sorted((point for point in points if point.policy == name), key=lambda point: point.moves_per_window)
        places = [(_across(shares[id(point)]), _height(point.balancedness)) for point in own]
        lines += [_line(places, name)] if len(places) > 1 else []
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_colour(name)}"/>' for x, y in places]
        x, y = places[-1]
        lines.append(_text(x + 10, y + 4, name if len(places) == 1 else f"{name}, by budget", colour=_colour(name)))
    lines += [_text(_across(share), PLOT_FLOOR + 17, f"{share:.0%}", anchor="middle") for share in SHARES]
    lines.append(
        _text(LEFT, PLOT_FLOOR + 38, "slots moved in a window, on average (square-root scale); left and up is better")
    )
    return _picture(what, lines)


def _picture(what: str, lines: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{what}" '
            'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13">',
            *lines,
            "</svg>",
            "",
        ]
    )


def _levels() -> list[str]:
    """Return a scale of balancedness, with the bound at 1 as a line of its own."""
    lines = []
    for tick in TICKS:
        y, bound = _height(tick), tick == 1
        dashes = ' stroke-dasharray="7 4"' if bound else ""
        lines.append(
            f'<line x1="{PLOT_LEFT}" x2="{PLOT_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{BOUND if bound else INK}" '
            f'stroke-width="{2 if bound else 1}" stroke-opacity="{1 if bound else 0.25}"{dashes}/>'
        )
        lines.append(_text(PLOT_LEFT - 8, y + 4, f"{tick:.1f}", anchor="end"))
    lines.append(_text(PLOT_LEFT, _height(1) - 8, "no plan exceeds 1.000", colour=BOUND))
    return lines


def _line(points: list[tuple[float, float]], name: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{LINES[name][1]}"' if LINES[name][1] else ""
    return f'<polyline points="{path}" fill="none" stroke="{_colour(name)}" stroke-width="2"{dashes}/>'


def _names(places: list[tuple[float, str]]) -> list[str]:
    """Return names at the ends of their lines, none over another."""
    lines, below = [], 0.0
    for y, name in sorted(places):
        below = max(y + 4, below + 16)
        lines.append(_text(PLOT_RIGHT + 10, below, name, colour=_colour(name)))
    return lines


def _height(balancedness: float) -> float:
    return PLOT_FLOOR - (balancedness - LEAST) / (1 - LEAST) * (PLOT_FLOOR - PLOT_TOP)


def _across(share: float) -> float:
    return PLOT_LEFT + 20 + (share / 0.6) ** 0.5 * (PLOT_RIGHT - PLOT_LEFT - 20)


def _colour(name: str) -> str:
    return LINES[name][0]


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
