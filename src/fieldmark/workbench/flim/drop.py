"""Drop filters of a model and learn what comes after them anew, as a run and a model of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.checkpoint import header_of, load, read_bundle, save, write_bundle
from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput, NotFound
from fieldmark.recipes import validate
from fieldmark.recipes.registry import FAMILIES
from fieldmark.workbench.fitting import MARKS, follow_fit
from fieldmark.workbench.flim.models import Found
from fieldmark.workbench.project import checked_name
from fieldmark.workbench.runs import JOB, Run, new_run

if TYPE_CHECKING:
    from fieldmark.recipes.flim_arch import Module

Settings = dict[str, Any]


def parse_drops(words: Sequence[str]) -> dict[str, set[int]]:
    """`LAYER:NUMBER` or `LAYER:NUMBER,NUMBER`, each, to numbers by layer."""
    drops: dict[str, set[int]] = {}
    for word in words:
        layer, _, numbers = word.rpartition(":")
        if not layer or not all(part.strip().isdecimal() and len(part) < 10 for part in numbers.split(",")):
            raise BadInput(f"--drop {word!r}: wanted LAYER:NUMBER, such as branch1/layer1:3 or conv1:0,4.")
        drops.setdefault(layer, set()).update(int(part) for part in numbers.split(","))
    return drops


def begin_without(found: Found, drops: dict[str, set[int]], name: str = "") -> tuple[Run, Iterator[Event]]:
    """A run that learns the model again without some of its filters; its model stands beside the old one.

    It learns from what taught the model: the same images and strokes, as they were then.

    Args:
        found: The model.
        drops: Numbers of filters by layer, as `inspect` shows them.
        name: Of the new model; the old one's with `-dropped` where none is given.

    Raises:
        NotFound: A layer's name is wrong.
        BadInput: A number is too high, all of a layer would go, or two layers depend on each other.
    """
    job = read_json(found.run / JOB)
    header = header_of(found.model)
    model = checked_name("model", name or f"{Path(found.name).name}-dropped")
    if (found.shelf / model).exists():
        raise BadInput(f"{found.shelf / model} exists already. Name the new model with --name.")
    sizes = {str(item["weight"]).removesuffix(".weight"): len(item["stroke"]) for item in header.details["kernels"]}
    job["recipe"]["net"] = _net_without(header.family, job["recipe"]["net"], sizes, drops)
    run = new_run(found.project, header.family, model)
    write_bundle(run.folder, MARKS, {}, read_bundle(found.run, MARKS)[1])
    job["folder"] = str(run.folder)
    write_atomic(run.folder / "recipe.yaml", _as_yaml(job["recipe"]).encode())
    write_atomic(run.folder / JOB, json.dumps(job, indent=2).encode())
    return run, _follow(found, run)


def _follow(found: Found, run: Run) -> Iterator[Event]:
    yield from follow_fit(found.project, run)
    if found.shelf != found.project.models:
        header, weights = load(run.folder / "model")
        save(found.shelf / run.model, replace(header, details={**header.details, "run": run.id}), weights)


def _net_without(family: str, net: Settings, sizes: dict[str, int], drops: dict[str, set[int]]) -> Settings:
    """The network's settings with the filters recorded as dropped."""
    full: Settings = validate(FAMILIES.load_config(family), net, where="net").model_dump(mode="json")
    followers = _followers(family, full)
    for layer in drops:
        if layer not in followers:
            raise NotFound("layer", layer, list(followers))
    for layer, numbers in drops.items():
        if both := [later for later in followers[layer] if later in drops]:
            raise BadInput(
                f"{both[0]} learns from what {layer} passes on: its filters will be others, with other "
                "numbers. Drop filters of one layer, look at the new model, and then drop filters of the next."
            )
        count = sizes[_path(family, layer)]
        _record(family, full, layer, _dropped(_recorded(family, full, layer), numbers, count, layer))
        for later in followers[layer]:
            _record(family, full, later, [])
    return full


def _dropped(before: Sequence[int], now: set[int], count: int, layer: str) -> list[int]:
    """Numbers among all filters that were learned, from numbers among the `count` that are left of them."""
    kept = [number for number in range(count + len(before)) if number not in before]
    if max(now) >= count:
        raise BadInput(f"{layer} has filters 0 to {count - 1}, and no {max(now)}.")
    if len(now) >= count:
        raise BadInput(f"These are all filters of {layer}. Keep one, or leave the layer out of the recipe.")
    return sorted([*before, *(kept[number] for number in now)])


def _followers(family: str, net: Settings) -> dict[str, list[str]]:
    """Every layer by name, and the layers that learn from what it passes on."""
    if family == "flim":
        branches = enumerate(net["branches"], start=1)
        chains = [[f"branch{b}/layer{i + 1}" for i in range(len(branch["layers"]))] for b, branch in branches]
        return {layer: chain[place + 1 :] for chain in chains for place, layer in enumerate(chain)}
    from fieldmark.recipes.flim_arch import FlimGraphConfig

    return _followers_below(validate(FlimGraphConfig, net, where="net").arch.features)


def _followers_below(module: Module, prefix: str = "") -> dict[str, list[str]]:
    """The same of the convolutions of a module; branches beside each other learn nothing from each other."""
    from fieldmark.recipes.flim_arch import Operation

    found: dict[str, list[str]] = {}
    for name, node in module.layers.items():
        path = f"{prefix}{name}"
        if isinstance(node, Operation):
            own: dict[str, list[str]] = {path: []} if node.operation.startswith("conv") else {}
        else:
            own = _followers_below(node, f"{path}/")
        for later in found.values() if module.type == "sequential" else ():
            later += own
        found |= own
    return found


def _path(family: str, layer: str) -> str:
    """The module of a layer, as the names of weights have it."""
    if family != "flim":
        return f"graph.{layer.replace('/', '.')}"
    branch, index = _numbers(layer)
    return f"branches.{branch}.{index}"


def _recorded(family: str, net: Settings, layer: str) -> list[int]:
    if family != "flim":
        return list(net["dropped"].get(layer, []))
    branch, index = _numbers(layer)
    return list(net["branches"][branch]["layers"][index]["dropped"])


def _record(family: str, net: Settings, layer: str, numbers: list[int]) -> None:
    if family != "flim":
        net["dropped"][layer] = numbers
        return
    branch, index = _numbers(layer)
    net["branches"][branch]["layers"][index]["dropped"] = numbers


def _numbers(layer: str) -> tuple[int, int]:
    branch, _, index = layer.removeprefix("branch").partition("/layer")
    return int(branch) - 1, int(index) - 1


def _as_yaml(values: Settings) -> str:
    import yaml

    return str(yaml.safe_dump(values, sort_keys=False))
