"""What the layers of a network give for whole images."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, InputMismatch, NotFound
from fieldmark.infer.answers import MOST_PIXELS, read_whole, see_image
from fieldmark.infer.cam import explain_image, layer_names, maps_in
from fieldmark.infer.device import device_of
from fieldmark.infer.forward import require_numbers
from fieldmark.infer.predict import Model, model_of
from fieldmark.prepare import Whole, apply
from fieldmark.recipes.layers import layer_name as written

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.models.base import Net


def layer_name(net: Net, typed: str) -> str:
    """The full name of a layer, of which its last parts are enough. Raises NotFound for none, BadInput for several.

    It may be typed as an architecture or `inspect` has it (`outer/pool`, `branch1/layer2`), or as weights are called.
    """
    names = layer_names(net)
    wanted = typed.replace(".", "/")
    found = [name for name in names if wanted in (name.replace(".", "/"), written(name))]
    found = found or [name for name in names if name.replace(".", "/").endswith(f"/{wanted}")]
    if not found:
        raise NotFound("layer", typed, [written(name) for name in names if name != "graph" and "after_it" not in name])
    if len(found) > 1:
        several = " or ".join(name.replace(".", "/") for name in found)
        raise BadInput(f"{typed!r} may be {several}. Name the layer with what stands before it.")
    return found[0]


def map_layers(net: Net) -> list[str]:
    """The layers that play a part in the features and give maps, in the order in which they answer."""
    return list(_run(net, _smallest(net), layer_names(net)))


def last_layer(net: Net) -> str:
    """The layer whose maps an image head looks at, the last of them. Raises BadInput where there is none."""
    with torch.inference_mode():
        with _outputs(net, layer_names(net)) as seen:
            last = net.image_maps(_smallest(net))[-1]
        found = [name for name, output in seen.items() if output is last]
    if not found:
        raise BadInput(f"No layer gives the last map by itself. Name one: {', '.join(layer_names(net)[:20])}.")
    return found[0]


def layer_maps(model: Model, source: ImageSource, image: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """(F, (z,) y, x) float32 maps of each layer for a whole image or volume, on the layer's own grid.

    The image is grown to the network's stride by reflection; rows and columns of a map that see nothing but what was
    added are cut off.
    """
    net = model.net
    if net.spatial == 3:
        x = _see_volume(model, source, image)
        size = tuple(x.shape[2:])
    else:
        pixels = read_whole(model, source, image)
        x = see_image(net, pixels, model.header.preparation)
        wanted = net.image_head.look.size if net.image_head is not None else None
        size = wanted or pixels.shape[1:]
    maps = _run(net, x, names)
    if missing := [name for name in names if name not in maps]:
        known = ", ".join(written(name) for name in map_layers(net)[:20] if name != "graph")
        raise BadInput(f"Layer {written(missing[0])!r} gives no maps. Layers that do: {known}.")
    return {name: _cut(maps[name], size, tuple(x.shape[2:])) for name in names}


def _see_volume(model: Model, source: ImageSource, image: str) -> Tensor:
    """(1, c, z, y, x) prepared voxels, at the volume's own size."""
    times, channels, *size = source.shape
    if channels != model.header.channels:
        raise InputMismatch(model=model.name, expected=model.header.channels, found=channels, image=image)
    if times > 1 or prod(size) > MOST_PIXELS:
        raise BadInput(
            f"{image} has {' x '.join(map(str, size))} voxels at {times} times; what layers give is written for one "
            f"volume of up to {MOST_PIXELS} voxels. Cut it."
        )
    voxels = source.read(Box.whole(source.shape))[0]
    require_numbers(voxels, image)
    steps = Whole(lambda: source).at(model.header.preparation, Box((0,) * 4, (1, *size)))
    return torch.from_numpy(apply(voxels, steps))[None]


def layers_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Write what layers give (see `fieldmark.workbench.flim.layers`): a file for each image, or one zip a layer."""
    model = model_of(job)
    names, shown = _named(model.net, job["layers"], map_layers)
    collected: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number, item in enumerate(job["images"], start=1):
        with _opened(item) as source:
            maps = layer_maps(model, source, item["name"], names)
        for name, values in maps.items():
            folder = Path(job["out"]) / folder_name(shown[name])
            if job["format"] == "zip":
                collected[name].append(_same_size(values, collected[name], item["name"]))
            else:
                _write_map(folder / Path(item["name"]).stem, values, job["format"])
        yield Event("layers", number, len(job["images"]), message=item["name"])
    if job["format"] == "zip":
        for name in names:
            folder = Path(job["out"]) / folder_name(shown[name])
            _write_zip(folder / "dataset.zip", collected[name], job["images"])


def explain_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Draw Grad-CAM pictures (see `fieldmark.workbench.flim.explain`): `OUT/LAYER/IMAGE.png`."""
    model = model_of(job)
    names, shown = _named(model.net, job["layers"], lambda net: [last_layer(net)])
    total = len(names) * len(job["images"])
    for number, (item, name) in enumerate(((item, name) for item in job["images"] for name in names), start=1):
        with _opened(item) as source:
            cam = explain_image(model, source, item["name"], layer=name)
            picture = _heated(read_whole(model, source, item["name"]), cam.heat)
        from fieldmark.images import encode_png

        target = Path(job["out"]) / folder_name(shown[name]) / f"{Path(item['name']).stem}.png"
        write_atomic(target, encode_png(picture))
        said = model.header.classes[cam.klass].name
        yield Event("explain", number, total, message=f"{item['name']}: class {said}, {cam.probability:.3f}")


def _named(net: Net, typed: Sequence[str], otherwise: Callable[[Net], list[str]]) -> tuple[list[str], dict[str, str]]:
    """The layers that were typed, each once, or others where none was; and what each is called in files."""
    called = {layer_name(net, name): name for name in typed}
    if not called:
        called = {name: written(name) for name in otherwise(net) if name != "graph"}
    folders = [folder_name(name) for name in called.values()]
    if twice := [name for name, folder in zip(called.values(), folders, strict=True) if folders.count(folder) > 1]:
        raise BadInput(f"{' and '.join(twice)} would be written into one folder. Name one of them alone (-l).")
    return list(called), called


def folder_name(layer: str) -> str:
    """A layer's name as a folder's: never a path that leads elsewhere."""
    spelled = layer.replace("/", ".")
    return "".join(part if part.isalnum() or part in "-_." else "_" for part in spelled).strip(".") or "_"


@contextmanager
def _opened(item: dict[str, Any]) -> Iterator[ImageSource]:
    from fieldmark.images import open_image

    with open_image(Path(item["uri"]), shown=item["name"]) as source:
        yield source


def _smallest(net: Net) -> Tensor:
    """An image of nothing: enough to see which layer answers."""
    return torch.zeros(1, net.channels, *(net.least if net.spatial == 3 else net.least_whole()), device=device_of(net))


def _run(net: Net, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    with torch.inference_mode(), _outputs(net, names) as seen:
        net.image_maps(x)
    return seen


@contextmanager
def _outputs(net: Net, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The maps (1, F, (z,) y, x) that layers give while the block runs, by name."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: object, output: object) -> None:
            maps = maps_in(output)
            if maps is not None:
                seen[name] = maps

        return hook

    net.eval()
    with ExitStack() as stack:
        for name in names:
            stack.callback(net.get_submodule(name).register_forward_hook(keep(name)).remove)
        yield seen


def _cut(maps: Tensor, size: tuple[int, ...], grown: tuple[int, ...]) -> np.ndarray:
    """(1, F, (z,) y, x) to (F, (z,) y, x) without what lies wholly beyond the image."""
    kept = tuple(slice(-(-n * m // g)) for n, m, g in zip(size, maps.shape[2:], grown, strict=True))
    found: np.ndarray = maps[0][(slice(None), *kept)].float().cpu().numpy()
    return np.ascontiguousarray(found)


def _same_size(values: np.ndarray, before: list[np.ndarray], image: str) -> np.ndarray:
    if before and values.size != before[0].size:
        raise BadInput(
            f"{image} gives {values.size} numbers and the first image {before[0].size}; a zip holds images of one "
            "size. Write npy or mimg (-f), or resize the images."
        )
    return values.reshape(-1)


def _write_map(stem: Path, values: np.ndarray, form: str) -> None:
    if form == "mimg":
        from fieldmark.images.writers.mimg import write_mimg

        write_mimg(stem.with_name(f"{stem.name}.mimg"), values)
        return
    data = io.BytesIO()
    np.save(data, values, allow_pickle=False)
    write_atomic(stem.with_name(f"{stem.name}.npy"), data.getvalue())


def _write_zip(path: Path, rows: list[np.ndarray], images: list[dict[str, Any]]) -> None:
    from fieldmark.features.opf import write_opf

    names = [item["name"] for item in images]
    write_opf(path, np.stack(rows), np.array([item["class"] for item in images], np.int32), names=names)


def _heated(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """(y, x, 3) uint8: the image in gray, with red where the evidence is."""
    from fieldmark.report.pictures import displayable

    gray = displayable(np.moveaxis(pixels, 0, -1)).mean(axis=2, keepdims=True)
    warm = np.array([255.0, 40.0, 0.0])
    share = 0.7 * heat[:, :, None]
    picture: np.ndarray = np.rint(gray * (1 - share) + warm * share).astype(np.uint8)
    return picture
