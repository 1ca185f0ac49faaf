"""What pictures share: lines that stay apart without colour, labels at their ends, and words for those who cannot see them.

Every `plot_` function draws one picture into a file and returns its alternative text: what is to be seen, with the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# After Okabe and Ito's colours, which most colour-blind readers can tell apart, the light ones darkened until a thin line of them is
# seen (3 : 1 on white) and black left to the oracle; the dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#008060", "#B3568A", "#9A6A00", "#5D3A9B", "#3A8FC4")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
INK, GREY, FAINT = "#1a1a1a", "#808080", "#c8c8c8"


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


def drawn_files(path: Path) -> list[Path]:
    """A picture's files: PNG for pages, and SVG and PDF for papers."""
    return [path.with_suffix(ending) for ending in (".png", ".svg", ".pdf")]


def save(figure, path: Path) -> None:
    """Write a figure's files and forget it. A PNG's colours are few: a palette of 256 takes a third of the bytes."""
    from matplotlib.pyplot import close
    from PIL import Image

    figure.set_dpi(150)
    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    figure.set_layout_engine("none")  # it is laid out
    pixels.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    for other in drawn_files(path)[1:]:
        figure.savefig(other, metadata={"Date": None} if other.suffix == ".svg" else {"CreationDate": None})
    close(figure)


def line_style(number: int) -> dict:
    """Colour and dashes of the line of a rule, by its number."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def label_ends(axes, lines: Iterable, gap: float = 0.05) -> None:
    """Write the label of each line to the right of its last point, moved apart where labels would overlap.

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
        axes.plot([x, 1.02], [y, height], transform=axes.transAxes, clip_on=False, color=FAINT, linewidth=0.6, zorder=0)
        mark = {"color": line.get_color(), "marker": "s" if line.get_marker() == "None" else line.get_marker()}
        axes.plot(
            [1.05], [height], transform=axes.transAxes, clip_on=False, linestyle="", **mark
        )  # a line would look like data
        axes.text(1.08, height, line.get_label(), transform=axes.transAxes, va="center", fontsize=9, color=INK)


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
