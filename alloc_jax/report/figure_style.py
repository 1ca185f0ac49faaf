"""What pictures share: lines that stay apart without colour, labels at their ends, and words for those who cannot see them.

Every `plot_` function draws one picture into a file and returns its alternative text: what is to be seen, with the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Okabe and Ito's colours, which most colour-blind readers can tell apart (black is the oracle's, so purple stands in for it); the
# dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
INK, GREY = "#1a1a1a", "#888888"


@dataclass(frozen=True)
class Picture:
    """A picture of a report."""

    path: Path
    caption: str
    alt: str  # the alternative text


def pyplot():
    """matplotlib.pyplot, set up for files.

    Raises:
      ImportError: the extra `plot` is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'alloc_jax[plot]'") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "svg.hashsalt": "0"})
    return plt


def save(figure, path: Path) -> None:
    """Writes a figure as PNG and forgets it. Its colours are few: a palette of 256 takes a third of the bytes."""
    from matplotlib.pyplot import close
    from PIL import Image

    figure.set_dpi(150)
    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    pixels.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    close(figure)


def line_style(number: int) -> dict:
    """Colour and dashes of the line of a rule, by its number."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def label_ends(axes, lines: Iterable, gap: float = 0.05) -> None:
    """Writes the label of each line to the right of its last point, moved apart where labels would overlap.

    Args:
      axes: whose limits are final.
      lines: `Line2D`s with a label.
      gap: the least distance of two labels, in heights of the axes.
    """
    ends = []
    for line in lines:
        x, y = line.get_data()
        seen = np.flatnonzero(np.isfinite(y) & (x <= axes.get_xlim()[1]))
        if len(seen):  # a rule may have no number to show
            point = axes.transData.transform((x[seen[-1]], y[seen[-1]]))
            ends.append((*axes.transAxes.inverted().transform(point), line))
    ends.sort(key=lambda end: end[1])
    heights = spread_out([end[1] for end in ends], gap)
    for (x, y, line), height in zip(ends, heights, strict=True):
        style = {"color": line.get_color(), "linestyle": line.get_linestyle(), "linewidth": line.get_linewidth()}
        axes.plot([x, 1.02, 1.06], [y, height, height], transform=axes.transAxes, clip_on=False, **style)
        axes.text(1.07, height, line.get_label(), transform=axes.transAxes, va="center", fontsize=9, color=INK)


def spread_out(heights: Sequence[float], gap: float) -> np.ndarray:
    """Rising heights, at least a gap apart and as near as that allows to the given ones, which rise.

    The nearest (least squares) such heights: subtract i * gap, pool neighbours that fall, add it again.

    >>> spread_out([0.0, 0.0, 1.0], 0.5)
    array([-0.25,  0.25,  1.  ])
    """
    pools: list[list[float]] = []
    for i, height in enumerate(heights):
        pools.append([height - i * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools]) if pools else np.zeros(0)
    return level + gap * np.arange(len(level))


def listed(parts: Iterable[str]) -> str:
    """Parts of a sentence in a row.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
