from __future__ import annotations

import copy
import json

import pytest

from fieldmark.errors import BadRecipe
from fieldmark.recipes.dialects.flim_arch import arch_of, arch_values, layers_as_arch, load_arch, read_arch, write_arch
from fieldmark.recipes.flim_arch import OPERATIONS, FlimGraphConfig, layer_words, walk

FEATURES = """
{"features": {"type": "sequential", "layers": {
    "conv1": {"operation": "conv2d", "params": {
        "kernel_size": 5, "stride": 1, "padding": 2, "dilation": 1, "number_of_kernels_per_marker": 8}},
    "activation": {"operation": "relu", "params": {"inplace": true}},
    "pool": {"operation": "max_pool2d", "params": {"kernel_size": 3, "stride": 4, "padding": 0}}}}}
"""
CLASSIFIER = """
{"layers": {
    "linear1": {"operation": "linear", "params": {"in_features": -1, "out_features": 512}},
    "relu3": {"operation": "relu", "params": {"inplace": true}},
    "linear2": {"operation": "linear", "params": {"in_features": 512, "out_features": 512}}}}
"""
LIDS = {
    "nlayers": 2,
    "stdev_factor": 0.02,
    "layer1": {
        "conv": {
            "kernel_size": [5, 3, 0],
            "dilation_rate": [2, 1, 0],
            "nkernels_per_image": 100000,
            "nkernels_per_marker": 7,
            "noutput_channels": 8,
        },
        "relu": True,
        "pooling": {"size": [3, 3, 0], "stride": 2, "type": "max_pool"},
    },
    "layer2": {
        "conv": {"kernel_size": [3, 3, 0], "nkernels_per_marker": 5, "noutput_channels": 16},
        "relu": False,
        "pooling": {"size": [1, 1, 0], "stride": 1, "type": "no_pool"},
    },
}


def document() -> dict:
    return json.loads(FEATURES) | {"classifier": json.loads(CLASSIFIER)}


def test_the_documents_examples_are_read():
    arch = read_arch(json.dumps(document()))
    names = [(name, node.operation) for name, node in walk(arch.features)]
    assert names == [("conv1", "conv2d"), ("activation", "relu"), ("pool", "max_pool2d")]
    assert arch.features.layers["pool"].params.stride == 4
    assert [node.params.in_features for name, node in walk(arch.classifier) if "linear" in name] == [-1, 512]
    assert read_arch(FEATURES).classifier is None


def test_it_is_written_as_it_is_read(tmp_path):
    for values in (document(), LIDS):
        arch = arch_of(values)
        write_arch(arch, tmp_path / "arch.json")
        assert load_arch(tmp_path / "arch.json") == arch
        assert FlimGraphConfig.model_validate({"arch": values}).arch == arch
        assert arch_of(arch.model_dump(mode="json")) == arch
    assert arch_values(arch_of(document()))["features"]["layers"]["conv1"] == document()["features"]["layers"]["conv1"]


def test_the_dialect_of_lids():
    layers = arch_of(LIDS).features.layers
    assert list(layers) == ["m_norm1", "conv1", "activation1", "pool1", "m_norm2", "conv2"]
    assert layers["m_norm1"].params.epsilon == 0.02
    conv = layers["conv1"].params
    assert (conv.kernel_size, conv.dilation, conv.padding) == ((3, 5), (1, 2), (1, 4))
    assert (conv.number_of_kernels_per_marker, conv.out_channels) == (7, 8)
    assert (layers["pool1"].params.padding, layers["pool1"].params.stride) == ((1, 1), 2)


def test_the_dialect_of_lids_in_3d():
    values = {"nlayers": 1, "layer1": copy.deepcopy(LIDS["layer1"])}
    values["layer1"]["conv"] |= {"kernel_size": [5, 3, 7], "dilation_rate": [1, 1, 1]}
    values["layer1"]["pooling"]["size"] = [3, 3, 1]
    arch = arch_of(values)
    assert arch.spatial == 3
    assert arch.features.layers["conv1"].params.kernel_size == (7, 3, 5)
    assert arch.features.layers["pool1"].params.kernel_size == (1, 3, 3)


def test_nested_modules_and_inline_operations():
    relu = {"operation": "relu"}
    pool = {"operation": "max_pool2d", "params": {"kernel_size": 3, "stride": 2}}
    conv = {"operation": "conv2d", "params": {"kernel_size": 3, "out_channels": 4, "activation": "relu", "pool": pool}}
    branches = {"a": {"layers": {"conv": conv}}, "b": {"layers": {}}, "c": relu}
    arch = arch_of({"features": {"layers": {"split": {"type": "parallel", "layers": branches}}}})
    assert [name for name, _ in walk(arch.features)] == ["split/a/conv", "split/c"]
    inner = dict(walk(arch.features))["split/a/conv"].params
    assert (inner.activation.operation, inner.pool.params.stride) == ("relu", 2)


def test_layer_specifications():
    specs = [{"operation": "m_norm2d"}, {"operation": "conv2d", "params": {"kernel_size": 3, "out_channels": 4}}]
    assert list(layers_as_arch(specs).features.layers) == ["m_norm1", "conv2"]
    assert layers_as_arch(LIDS) == arch_of(LIDS)
    with pytest.raises(BadRecipe, match="two layers are called 'a'"):
        layers_as_arch([{"operation": "relu", "name": "a"}, {"operation": "relu", "name": "a"}])


def test_every_operation_is_known():
    assert set(layer_words()) == set(OPERATIONS)


def _with(path: str, value: object) -> dict:
    values = document()
    place = values
    *keys, last = path.split("/")
    for key in keys:
        place = place[key]
    place[last] = value
    return values


CONV = "features/layers/conv1"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (f"{CONV}/params/kernal_size", 3, r"layers\.conv1\.params\.kernal_size: unknown key\. Did you mean 'kernel_s"),
        (f"{CONV}/operation", "conv2", r"features\.layers\.conv1\.operation: no operation .*Did you mean 'conv2d'"),
        (f"{CONV}/params/kernel_size", "x", r"conv1\.params\.kernel_size: wanted a whole number of at least 1"),
        (f"{CONV}/params/kernel_size", [3, 3, 3], r"conv1\.params\.kernel_size: wanted one number or 2 of them"),
        (f"{CONV}/params/stride", 0, r"conv1\.params\.stride: wanted a whole number of at least 1"),
        (f"{CONV}/params/padding", True, r"conv1\.params\.padding: wanted a whole number"),
        (f"{CONV}/params/pool", "maxpool2d", r"conv1\.params\.pool\.operation: .*Did you mean 'max_pool2d'"),
        (f"{CONV}/params/activation", "max_pool2d", r"conv1\.params\.activation\.operation: no operation"),
        (f"{CONV}/params/number_of_kernels_per_marker", None, r"conv1\.params: needs `out_channels`"),
        (f"{CONV}/parms", {}, r"conv1\.parms: unknown key\. Did you mean 'params'"),
        ("features/typ", 1, r"features\.typ: unknown key\. Did you mean 'type'"),
        ("features/type", "paralel", r"features\.type: no module is 'paralel'\. Did you mean 'parallel'"),
        ("features/params", {"aggregate": "max"}, r"features\.params\.aggregate: .*'concat'"),
        ("feature", {}, r"feature: unknown key\. Did you mean 'features'"),
        ("features/layers/a.b", {"operation": "relu"}, r"cannot be called 'a\.b'"),
        ("features/layers/x", {"operation": "max_pool3d", "params": {"kernel_size": 2}}, "mixes 2-D .* and 3-D"),
        (f"{CONV}/params/pool", {"operation": "avg_pool2d", "params": {"kernel_size": [2, 3], "padding": [1, 2]}},
         r"conv1\.params\.pool\.params\.padding: is \[1, 2\], more than half of the window \[2, 3\]"),
        ("features/layers/x", {"operation": "max_pool3d", "params": {"kernel_size": 3, "padding": 2}},
         r"layers\.x\.params\.padding: is \[2, 2, 2\], more than half of the window \[3, 3, 3\]"),
        ("features/layers/x", {"operation": "linear", "params": {"in_features": 1, "out_features": 1}}, "classifier"),
        ("classifier/layers/x", {"operation": "m_norm2d"}, r"classifier\.layers\.x: .*under `features`"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_its_path(path, value, message):
    with pytest.raises(BadRecipe, match=rf"(?s)^arch\.json: .*{message}"):
        arch_of(_with(path, value), source="arch.json")


def test_wrong_lids_files():
    wrong = copy.deepcopy(LIDS)
    wrong["layer1"]["conv"]["kernelsize"] = 1
    with pytest.raises(BadRecipe, match=r"layer1\.conv\.kernelsize: unknown key\. Did you mean 'kernel_size'"):
        arch_of(wrong)
    with pytest.raises(BadRecipe, match="layer3: is missing; nlayers says 3"):
        arch_of(LIDS | {"nlayers": 3})
    with pytest.raises(BadRecipe, match="layr1: unknown key"):
        arch_of(LIDS | {"layr1": {}})
