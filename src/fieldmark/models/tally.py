"""Statistics of a whole image, gathered tile by tile: numpy in, numpy out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 4096
"""Bins of a histogram, half of them below zero."""
HALF = BINS // 2


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of K bands after some of their pixels.

    The histogram's bins are 2^exponent wide and begin at -HALF * 2^exponent; the exponent is
    the smallest that holds every value so far. Halving the resolution joins whole bins, so
    counts, exponents, least and greatest values are the same whatever the tiles and their
    order; sums differ by rounding in float64 alone.

    Args:
        count: Pixels.
        low: (K,) float32 least values.
        high: (K,) float32 greatest values.
        total: (K,) float64 sums.
        exponent: (K,) int64.
        histogram: (K, BINS) int64; (K, 0) where nobody asked for it.
    """

    count: int
    low: np.ndarray
    high: np.ndarray
    total: np.ndarray
    exponent: np.ndarray
    histogram: np.ndarray

    @classmethod
    def of(cls, bands: np.ndarray, *, counted: bool = True) -> Tally:
        """The tally of (K, ...) finite values, at least one a band; without a histogram where it is not `counted`."""
        flat = bands.reshape(len(bands), -1).astype(np.float32, copy=False)
        low, high = flat.min(axis=1), flat.max(axis=1)
        exponent = _exponent(low, high)
        histogram = np.zeros((len(flat), 0), np.int64)
        if counted:
            histogram = np.stack([_counted(band, int(e)) for band, e in zip(flat, exponent, strict=True)])
        return cls(flat.shape[1], low, high, flat.sum(axis=1, dtype=np.float64), exponent, histogram)

    def __add__(self, other: Tally) -> Tally:
        exponent = np.maximum(self.exponent, other.exponent)
        return Tally(
            self.count + other.count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.total + other.total,
            exponent,
            _coarsened(self, exponent) + _coarsened(other, exponent),
        )

    @property
    def span(self) -> np.ndarray:
        """(K,) float64 greatest minus least value."""
        span: np.ndarray = self.high.astype(np.float64) - self.low
        return span

    @property
    def mean(self) -> np.ndarray:
        """(K,) float64."""
        mean: np.ndarray = self.total / self.count
        return mean

    def otsu(self) -> tuple[np.ndarray, np.ndarray]:
        """Otsu's threshold of each band, and the share of its pixels that is at least that.

        Returns:
            (K,) thresholds (upper edge of the lower class's last bin) and (K,) shares. A band
            of one value has no pixel above.
        """
        last = np.array([otsu_bin(counts) for counts in self.histogram])
        above = np.array([counts[place + 1 :].sum() for counts, place in zip(self.histogram, last, strict=True)])
        return np.ldexp((last + 1 - HALF).astype(np.float64), self.exponent), above / self.count


def otsu_bin(counts: np.ndarray) -> int:
    """The last bin of the lower class where two classes are farthest apart (Otsu 1979).

    Args:
        counts: (N,) of equally spaced bins.

    Returns:
        The first of the best; the last bin where all is in one.
    """
    places = np.arange(len(counts))
    below = np.cumsum(counts, dtype=np.float64)
    moment = np.cumsum(counts * places, dtype=np.float64)
    above = below[-1] - below
    parted = (below > 0) & (above > 0)
    if not parted.any():
        return len(counts) - 1
    apart = moment[-1] * below - below[-1] * moment
    spread = np.divide(apart**2, below * above, out=np.full(len(counts), -1.0), where=parted)
    return int(spread.argmax())


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """Otsu's threshold of few values: the center of the lower class's last bin, as in scikit-image."""
    if values.min() == values.max():
        return float(values.min())
    counts, edges = np.histogram(values, bins)
    place = otsu_bin(counts)
    return float((edges[place] + edges[place + 1]) / 2)


def _exponent(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(K,) the smallest exponents with -HALF <= value / 2^exponent < HALF."""
    most = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    # most = m * 2^e with m in 0.5..1, so most / 2^(e - log2 HALF) < HALF
    _, exponent = np.frexp(most)
    return np.where(most > 0, exponent.astype(np.int64) - (HALF.bit_length() - 1), -(1 << 10))


def _counted(band: np.ndarray, exponent: int) -> np.ndarray:
    place = np.floor(np.ldexp(band, -exponent)).astype(np.int64) + HALF
    return np.bincount(place, minlength=BINS)


def _coarsened(tally: Tally, exponent: np.ndarray) -> np.ndarray:
    """(K, BINS) counts with bins 2^exponent wide."""
    counts = np.zeros_like(tally.histogram)
    if counts.size == 0:
        return counts
    for band, steps in enumerate(np.minimum(exponent - tally.exponent, BINS.bit_length())):
        place = ((np.arange(BINS) - HALF) >> steps) + HALF
        counts[band] = np.bincount(place, tally.histogram[band], BINS)
    return counts
