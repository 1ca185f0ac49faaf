"""The nearest of some points: exactly where they are few, and in the cells around a query where they are many.

All distances of N questions from each other are N^2 numbers, and D times as many products. Of many points, cells are made around random
ones of them (an inverted file, as in Jegou, Douze and Schmid, 2011), and the queries of a cell look at as many of the
cells around it as hold `LOOKED_AT` points together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

FEW = 1 << 13  # points among which the nearest are found exactly
CELL = 256  # points of a cell, on average
LOOKED_AT = 1 << 12
BLOCK = 1 << 23  # distances that are held at once


class Neighbours:
    """Points among which the nearest are looked for, by their squared distance.

    Args:
      points: f32[N, D].
    """

    def __init__(self, points: np.ndarray):
        self._points, self._squares = points, (points**2).sum(axis=1)
        self._centres = points[:1]
        if len(points) > FEW:
            rng = np.random.default_rng(0)
            self._centres = points[np.sort(rng.permutation(len(points))[: len(points) // CELL])]
            home = self._homes(points)
            count = np.bincount(home, minlength=len(self._centres))
            total = np.zeros_like(self._centres)
            np.add.at(total, home, points)
            self._centres = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], self._centres)
        home = self._homes(points)
        self._order = np.argsort(home, kind="stable")
        self._ends = np.cumsum(np.bincount(home, minlength=len(self._centres)))

    def nearest(
        self, queries: np.ndarray, count: int, alike: tuple[np.ndarray, np.ndarray] | None = None
    ) -> np.ndarray:
        """Positions i64[n, count] of the points nearest to queries f32[n, D], nearest first; of equally near ones the earlier first.

        Args:
          queries: f32[n, D].
          count: how many; there are as many.
          alike: numbers i64[n] of the queries and i64[N] of the points; no point of a query's own number is among its nearest.
        """
        found = np.empty((len(queries), count), np.int64)
        home = self._homes(queries)
        order = np.argsort(home, kind="stable")
        for cell, mine in self._by_cell(home, order):
            around = self._around(cell, count)
            for rows in _blocks(mine, len(around)):
                found[rows], whole = self._of(queries, rows, around, count, alike)
                for few in _blocks(rows[~whole], len(self._points)):  # their own number fills the cells around them
                    found[few], _ = self._of(queries, few, np.arange(len(self._points)), count, alike)
        return found

    def _of(self, queries, rows, points, count, alike) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of some points to some queries, and whether there are as many that are allowed."""
        distance = squared_distances(queries[rows], self._points[points], self._squares[points])
        if alike is not None:
            distance[alike[0][rows, None] == alike[1][points]] = np.inf
        if len(self._points) <= FEW:
            near = np.argsort(distance, axis=1, kind="stable")[:, :count]
        else:
            near = np.argpartition(distance, count - 1, axis=1)[:, :count]
            near.sort(axis=1)
            by_distance = np.argsort(np.take_along_axis(distance, near, axis=1), axis=1, kind="stable")
            near = np.take_along_axis(near, by_distance, axis=1)
        return points[near], np.isfinite(distance[np.arange(len(rows)), near[:, -1]])

    def _homes(self, points: np.ndarray) -> np.ndarray:
        """The cell i64[n] that each point lies in."""
        if len(self._centres) == 1:
            return np.zeros(len(points), np.int64)
        squares = (self._centres**2).sum(axis=1)
        rows = _blocks(np.arange(len(points)), len(self._centres))
        return np.concatenate([squared_distances(points[r], self._centres, squares).argmin(axis=1) for r in rows])

    def _by_cell(self, home: np.ndarray, order: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        ends = np.cumsum(np.bincount(home, minlength=len(self._centres)))
        for cell, (start, end) in enumerate(zip(np.append(0, ends), ends, strict=False)):
            if end > start:
                yield cell, order[start:end]

    def _around(self, cell: int, count: int) -> np.ndarray:
        """The points, by their position, of a cell and of as many around it as hold enough."""
        near = ((self._centres - self._centres[cell]) ** 2).sum(axis=1).argsort(kind="stable")
        starts = np.append(0, self._ends[:-1])
        held = np.cumsum((self._ends - starts)[near])
        chosen = near[: np.searchsorted(held, min(max(LOOKED_AT, 2 * count), len(self._points))) + 1]
        return np.sort(np.concatenate([self._order[starts[c] : self._ends[c]] for c in chosen]))


def squared_distances(queries: np.ndarray, points: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """f32[n, N] of queries f32[n, D] from points f32[N, D], whose squared norms are known."""
    return (queries**2).sum(axis=1)[:, None] - 2 * queries @ points.T + squares


def _blocks(rows: np.ndarray, width: int) -> list[np.ndarray]:
    """Rows in parts of so few that a block of this width is held at once."""
    some = max(BLOCK // width, 1)
    return [rows[at : at + some] for at in range(0, len(rows), some)]
