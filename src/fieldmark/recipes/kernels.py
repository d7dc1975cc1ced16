"""How the kernels of a FLIM layer are made of the patches under strokes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, PositiveInt


class KernelConfig(BaseModel, frozen=True, extra="forbid"):
    """What one kernel stands for, and which kernels are kept."""

    kind: Literal["centers", "nearest", "points", "random"] = "centers"
    """`centers`: the mean of each cluster of patches. `nearest`: the real patch nearest to it. `points`: a bag of
    feature points, clustered once at the input and looked up in every layer. `random`: no patches at all."""
    reduction: Literal["kmeans", "pca"] = "kmeans"
    """How more kernels than `out_channels` become fewer. `pca` where there are more kernels than they have numbers,
    else `kmeans`; random kernels are always reduced by `pca`."""
    grouping: Literal["stroke", "class"] = "stroke"
    """Whose patches are clustered together: `kernels_per_marker` kernels come of each stroke, or of each class."""
    min_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Clusters with a smaller share of their group's patches give no kernel; libIFT takes 0.05."""
    similarity: Annotated[float, Field(gt=0, le=1)] | None = None
    """A kernel is dropped where its product with an earlier one, sign aside, is at least this."""
    n_init: PositiveInt = 1
    """Starts of each clustering; the best is kept."""
