"""What a predicted image must be compared with: a constant, and a straight line from the input to the target.

Both are fitted on images that taught the model; only sums are kept, so memory does not follow the images.
"""

from __future__ import annotations

import numpy as np

from fieldmark.errors import BadInput

RIDGE = 1e-9
"""Share of the mean variance that is added to each input's: channels that are alike have a solution."""


class LinearFit:
    """Least squares from the values of a pixel's channels to its target, gathered piece by piece.

    Args:
        inputs: Channels of the input.
        targets: Channels of the target.
    """

    def __init__(self, inputs: int, targets: int) -> None:
        self.inputs = inputs
        self.targets = targets
        self.count = 0
        size = inputs + targets
        self._mean = np.zeros(size)
        self._spread = np.zeros((size, size))

    def add(self, image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Learn from some pixels.

        Args:
            image: (C, ...) real.
            target: (T, ...) real; where it is not finite it is unknown and teaches nothing.
            mask: (...) bool, True where pixels count.

        Raises:
            BadInput: Other channels than were declared, or shapes that differ.
        """
        if (len(image), len(target)) != (self.inputs, self.targets) or image.shape[1:] != target.shape[1:]:
            raise BadInput(
                f"The image is {image.shape} and the target {target.shape}, but {self.inputs} and {self.targets} "
                "channels of one size were wanted. Give images with as many channels as the others."
            )
        rows = np.concatenate([image, target]).reshape(self.inputs + self.targets, -1).astype(np.float64)
        known = np.isfinite(rows).all(axis=0)
        rows = rows[:, known if mask is None else known & mask.ravel()]
        if rows.shape[1]:
            self._merge(rows)

    def _merge(self, rows: np.ndarray) -> None:
        """Means and products about the mean of both parts together, without loss for large means."""
        added, mean = rows.shape[1], rows.mean(axis=1)
        centered = rows - mean[:, None]
        gap, total = mean - self._mean, self.count + added
        self._spread += centered @ centered.T + np.outer(gap, gap) * (self.count * added / total)
        self._mean += gap * (added / total)
        self.count = total

    @property
    def mean(self) -> np.ndarray:
        """(T,) the mean target: the best constant."""
        return self._mean[self.inputs :].copy()

    def predict(self, image: np.ndarray) -> np.ndarray:
        """The line's answer for (C, ...) pixels: (T, ...) float64."""
        x = self._spread[: self.inputs, : self.inputs]
        ridge = RIDGE * (np.trace(x) / self.inputs or 1.0)
        slope = np.linalg.solve(x + ridge * np.eye(self.inputs), self._spread[: self.inputs, self.inputs :])
        centered = image.reshape(self.inputs, -1) - self._mean[: self.inputs, None]
        answer: np.ndarray = slope.T @ centered + self._mean[self.inputs :, None]
        return answer.reshape(self.targets, *image.shape[1:])

    def predict_mean(self, image: np.ndarray) -> np.ndarray:
        """The best constant for (C, ...) pixels: (T, ...) float64."""
        return np.broadcast_to(self.mean.reshape(-1, *[1] * (image.ndim - 1)), (self.targets, *image.shape[1:])).copy()
