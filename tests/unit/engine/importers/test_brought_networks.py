"""Networks that people bring: they give what the original gives, and what cannot be read is refused by name."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from geoml.engine import importers
from geoml.engine.importers._onnx_steps import STEPS
from geoml.engine.packages import exported, package
from geoml.engine.packages.import_options import ImportOptions
from geoml.engine.packages.measure import ReceptiveField
from geoml.errors import DataError, GeomlError, InputError, ModelError
from geoml.io.cards.map_card import MapCard

ENCODER = "tu-test_resnet"
"""timm's smallest: 0.1 M parameters."""
TOLD: dict[str, Any] = {
    "bands": ["red,nir"],
    "gsd": 10,
    "scale": 10000,
    "classes": ["water=#419bdf,field,town"],
    "chip_size": 64,
}


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receptive fields take seconds and have tests of their own."""
    monkeypatch.setattr(exported, "measure", lambda module, bands, stride, sizes: ReceptiveField(None, stride))


def brought(kind: str | Path, source: Path = Path(), *, out: Path, **told: Any) -> MapCard:
    options = {k: v for k, v in {**TOLD, **told}.items() if v is not None}
    card = importers.convert(str(kind), source, out, ImportOptions.model_validate(options))
    assert isinstance(card, MapCard)
    return card


def same(folder: Path, original: Callable[[Tensor], Tensor], sides: tuple[int, ...] = (64,)) -> None:
    """The package, read from disk, gives what the original gives on chips that the import has not seen."""
    loaded = package.load(folder)
    for side in sides:
        x = torch.randn(2, len(loaded.card.bands), side, side, generator=torch.Generator().manual_seed(7))
        with torch.no_grad():
            torch.testing.assert_close(loaded.module(x), original(x), atol=1e-4, rtol=0)


class Net(nn.Module):
    """Down and up again by two ways."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.up, self.head = nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.first(x)))
        low = nn.functional.max_pool2d(y, 2)
        wide = nn.functional.interpolate(nn.functional.avg_pool2d(y, 4), scale_factor=4.0, mode="bilinear")
        logits: Tensor = self.head(self.up(low) + wide)
        return logits


# --- .pt2


def program(path: Path, net: nn.Module, *, free: bool) -> Path:
    auto = torch.export.Dim.AUTO
    dims = ({0: auto, 2: 4 * torch.export.Dim("h", max=512), 3: 4 * torch.export.Dim("w", max=512)},) if free else None
    torch.export.save(torch.export.export(net.eval(), (torch.randn(2, 2, 64, 64),), dynamic_shapes=dims), path)
    return path


def test_a_program_of_free_sizes(tmp_path: Path) -> None:
    net = Net().eval()
    card = brought(program(tmp_path / "net.pt2", net, free=True), out=tmp_path / "out")
    same(tmp_path / "out", net, (64, 128))
    assert (card.stride, card.radius is not None, card.license, card.name) == (4, True, "other", "out")
    assert [(b.name, b.mean, b.std) for b in card.bands] == [("red", 0.0, 1e-4), ("nir", 0.0, 1e-4)]
    assert [c.name for c in card.classes] == ["water", "field", "town"]
    assert card.classes[0].color == "#419bdf"
    assert len({c.color for c in card.classes}) == 3


def test_a_program_of_one_size_with_what_the_original_gave(tmp_path: Path) -> None:
    net = Net().eval()
    x = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        np.savez(tmp_path / "reference.npz", input=x.numpy(), output=net(x).numpy())
        np.savez(tmp_path / "other.npz", input=x.numpy(), output=net(x).numpy() + 1e-3)
    path = program(tmp_path / "net.pt2", net, free=False)
    card = brought(path, out=tmp_path / "out", reference=tmp_path / "reference.npz")
    assert card.scores["original_difference"] <= 1e-5
    assert card.radius is None
    with pytest.raises(ModelError, match=r"differs from the original's by 0.001; expected at most 0.0001"):
        brought(path, out=tmp_path / "not", reference=tmp_path / "other.npz")
    assert not (tmp_path / "not").exists()


# --- ONNX


def graph(path: Path, *nodes: onnx.NodeProto, channels: int = 2, outputs: Any = 3, side: Any = "n") -> Path:
    """A file with a convolution before ``nodes``, which make ``y`` of ``a``."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(0, 0.3, (3, channels, 3, 3)), "b": random.normal(0, 0.1, 3)}
    constants = {"scales": np.array([1, 1, 2, 2], np.float32), "from": np.array([2]), "to": np.array([4])}
    named = {**{k: v.astype(np.float32) for k, v in weights.items()}, **constants}
    conv = helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    relu = helper.make_node("Relu", ["c"], ["a"])
    made = helper.make_graph(
        [conv, relu, *nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs, side, side])],
        [numpy_helper.from_array(v, k) for k, v in named.items()],
    )
    domains = {n.domain for n in nodes} - {""}
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    path.write_bytes(helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


POOL = helper.make_node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2])
HALF = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
UP = helper.make_node("Resize", ["p", "", "scales"], ["y"], **HALF)
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
GRAPHS: dict[str, tuple[onnx.NodeProto, ...]] = {
    "bilinear": (POOL, UP),
    "nearest": (POOL, helper.make_node("Resize", ["p", "", "scales"], ["y"], **NEAREST)),
    "probabilities": (helper.make_node("Softmax", ["a"], ["y"], axis=1),),
    "sizes of the input": (
        POOL,
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("Slice", ["s", "from", "to"], ["hw"]),
        helper.make_node("Shape", ["p"], ["ps"]),
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array([0]))),
        helper.make_node("Slice", ["ps", "zero", "from"], ["bc"]),
        helper.make_node("Concat", ["bc", "hw"], ["size"], axis=0),
        helper.make_node("Resize", ["p", "", "", "size"], ["y"], **HALF),
    ),
    "uneven padding": (
        helper.make_node("AveragePool", ["a"], ["v"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["v"], ["m"], kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Mul", ["m", "a"], ["y"]),
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_an_onnx_file_gives_what_onnx_runtime_gives(tmp_path: Path, name: str) -> None:
    import onnxruntime

    path = graph(tmp_path / "net.onnx", *GRAPHS[name])
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def original(x: Tensor) -> Tensor:
        y = torch.cat([torch.from_numpy(session.run(None, {"x": one[None].numpy()})[0]) for one in x])
        return y.log() if name == "probabilities" else y

    card = brought(path, out=tmp_path / "out")
    same(tmp_path / "out", original)
    assert card.scores["original_difference"] <= 1e-4
    assert (card.radius is None) == (name == "sizes of the input")


def test_an_onnx_file_of_one_size(tmp_path: Path) -> None:
    path = graph(tmp_path / "net.onnx", POOL, UP, side=64)
    assert brought(path, out=tmp_path / "out", chip_size=None).chip_size == 64
    with pytest.raises(InputError, match="--chip-size 128; the network takes 64"):
        brought(path, out=tmp_path / "not", chip_size=128)


# --- segmentation-models-pytorch, torchgeo, timm, transformers


def small(classes: int = 3, **more: Any) -> nn.Module:
    torch.manual_seed(0)
    size = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    return smp.Unet(ENCODER, encoder_weights=None, in_channels=2, classes=classes, **size, **more).eval()


@pytest.mark.usefixtures("unmeasured")
def test_a_folder_of_smp(tmp_path: Path) -> None:
    net = small()
    net.save_pretrained(str(tmp_path / "net"))
    card = brought(tmp_path / "net", out=tmp_path / "out", scale=None, mean=["0.1,0.3"], std=[0.05], license="MIT")
    same(tmp_path / "out", net, (64, 96))
    assert [(b.mean, b.std) for b in card.bands] == [(0.1, 0.05), (0.3, 0.05)]
    assert (card.license, card.training["encoder"]) == ("MIT", ENCODER)


@pytest.mark.usefixtures("unmeasured")
def test_one_output_is_the_odds_of_the_second_class(tmp_path: Path) -> None:
    net = small(classes=1)
    net.save_pretrained(str(tmp_path / "net"))
    with pytest.raises(InputError, match="has 3 names; the network has 1, so two are wanted"):
        brought(tmp_path / "net", out=tmp_path / "not")
    brought(tmp_path / "net", out=tmp_path / "out", classes=["other,water"])
    same(tmp_path / "out", lambda x: torch.cat([torch.zeros_like(net(x)), net(x)], 1))


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_checkpoints_of_torchgeo(tmp_path: Path) -> None:
    net = smp.Unet(ENCODER, encoder_weights=None, in_channels=2, classes=3).eval()
    state = net.state_dict()
    about = {"model": "unet", "backbone": ENCODER, "in_channels": 2, "num_classes": 3}
    named = {"state_dict": {f"model.{k}": v for k, v in state.items()}, "hyper_parameters": about}
    torch.save(named, tmp_path / "task.ckpt")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "state.safetensors")
    brought("torchgeo", tmp_path / "task.ckpt", out=tmp_path / "a")
    with pytest.raises(InputError, match="does not contain everything; give --architecture, --encoder"):
        brought("torchgeo", tmp_path / "state.safetensors", out=tmp_path / "not")
    brought("torchgeo", tmp_path / "state.safetensors", out=tmp_path / "b", architecture="unet", encoder=ENCODER)
    for name in "ab":
        same(tmp_path / name, net)


@pytest.mark.usefixtures("unmeasured")
def test_a_classifier_of_timm_is_asked_at_every_cell(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", in_chans=2, num_classes=3).eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    card = brought("timm", tmp_path / "net.pth", out=tmp_path / "out", architecture="test_resnet")
    assert card.training["difference_of_the_mean"] <= 1e-4
    assert card.scores["original_difference"] <= 1e-4


def folder_of_transformers(path: Path, name: str) -> Any:
    import transformers

    torch.manual_seed(0)
    wide = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    if name == "Segformer":
        heads = {"num_attention_heads": [1, 1, 2, 2], "sr_ratios": [4, 2, 1, 1], "decoder_hidden_size": 16}
        config: Any = transformers.SegformerConfig(num_channels=2, num_labels=3, **heads, **wide)
    else:
        inner = transformers.ConvNextConfig(
            num_channels=2, out_features=["stage1", "stage2", "stage3", "stage4"], **wide
        )
        sizes = {"hidden_size": 16, "pool_scales": [1, 2], "auxiliary_channels": 8, "auxiliary_in_channels": 16}
        config = transformers.UperNetConfig(backbone_config=inner, num_labels=3, **sizes)
    net = getattr(transformers, f"{name}ForSemanticSegmentation")(config).eval()
    net.save_pretrained(path)
    return net


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Segformer", "UperNet"])
@pytest.mark.filterwarnings("ignore")  # of transformers
def test_a_folder_of_transformers(tmp_path: Path, name: str) -> None:
    net = folder_of_transformers(tmp_path / "net", name)
    seen = {"do_rescale": True, "rescale_factor": 0.5, "image_mean": [0.1, 0.2], "image_std": [0.5, 0.25]}
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(seen))
    card = brought(tmp_path / "net", out=tmp_path / "out", classes=None, scale=None)
    assert [c.name for c in card.classes] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert [(b.mean, b.std) for b in card.bands] == [(0.2, 1.0), (0.4, 0.5)]

    def original(x: Tensor) -> Tensor:
        logits = net(pixel_values=x).logits
        return nn.functional.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)

    same(tmp_path / "out", original)


# --- what is refused


class Code:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_everything_that_is_missing_is_asked_for_at_once(tmp_path: Path) -> None:
    path = program(tmp_path / "net.pt2", Net().eval(), free=False)
    with pytest.raises(InputError) as said:
        importers.convert(str(path), Path(), tmp_path / "out", ImportOptions())
    for option in ("--bands (2 names)", "--gsd", "--scale, or --mean and --std", "--classes"):
        assert option in str(said.value)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"bands": ["red"]}, "--bands has 1 name; the network has 2"),
        ({"classes": ["a,a=#112233"]}, "--classes has a twice"),
        ({"unit": "bananas"}, "--unit bananas; expected one of reflectance, linear power, amplitude, dB, K"),
        ({"bands": ["red,red"]}, "--bands has red twice"),
        ({"mean": [0.1, 0.2, 0.3]}, "--mean 3; expected 1 or 2"),
        ({"std": [0.0]}, "--std: expected numbers above zero"),
        ({"classes": ["a=blue,b,c"]}, "expected a name, or a name and a colour"),
        ({"chip_size": 96}, "--chip-size 96; the network takes 64"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, told: dict[str, Any], message: str) -> None:
    path = program(tmp_path / "net.pt2", Net().eval(), free=False)
    with pytest.raises(InputError, match=message):
        brought(path, out=tmp_path / "out", **told)
    assert not (tmp_path / "out").exists()


def folder(root: Path, *, weights: bool = True, **changes: Any) -> Path:
    """A folder of smp with other settings."""
    small().save_pretrained(str(root / "x"))
    config = json.loads((root / "x" / "config.json").read_text())
    (root / "x" / "config.json").write_text(json.dumps({**config, **changes}))
    if not weights:
        (root / "x" / "model.safetensors").unlink()
    return root / "x"


def pickled(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / name).write_bytes(pickle.dumps({"state_dict": Code(folder / "executed")}))
    (folder / "config.json").write_text(json.dumps({"architectures": ["SegformerForSemanticSegmentation"]}))
    return folder


def external(path: Path) -> Path:
    model = onnx.load_model_from_string(graph(path, POOL, UP).read_bytes())
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    return path


BAD: dict[str, tuple[str, Callable[[Path], Path], type[GeomlError], str]] = {
    "a pickle as .pth": (
        "torchgeo",
        lambda p: pickled(p / "x", "a.pth") / "a.pth",
        DataError,
        "pickle is never executed",
    ),
    "a pickle of timm": ("timm", lambda p: pickled(p / "x", "a.bin") / "a.bin", DataError, "pickle is never executed"),
    "a pickle of transformers": (
        "huggingface",
        lambda p: pickled(p / "x", "pytorch_model.bin"),
        InputError,
        "no .safetensors; a pickle is never executed",
    ),
    "code of its own": ("huggingface", lambda p: folder(p, auto_map={}), InputError, "never run"),
    "no network of transformers": (
        "huggingface",
        lambda p: folder(p, model_type="bert"),
        ModelError,
        "not a segmentation",
    ),
    "a suffix that is none": (
        "torchgeo",
        lambda p: graph(p / "x.npz", UP),
        InputError,
        "expected a checkpoint of torchgeo",
    ),
    "an operator that is not known": (
        "onnx",
        lambda p: graph(p / "x.onnx", helper.make_node("Sin", ["a"], ["y"])),
        ModelError,
        "the operator ai.onnx.Sin",
    ),
    "an operator of others": (
        "onnx",
        lambda p: graph(p / "x.onnx", helper.make_node("Relu", ["a"], ["y"], domain="evil")),
        ModelError,
        "not converted",
    ),
    "weights elsewhere": ("onnx", lambda p: external(p / "x.onnx"), InputError, "weights lie in other files"),
    "no onnx": ("onnx", lambda p: folder(p) / "config.json", ModelError, "damaged or no ONNX"),
    "no program": ("pt2", lambda p: folder(p) / "config.json", ModelError, "not a .pt2 archive"),
    "an unknown network": ("smp", lambda p: folder(p, _model_class="Unett"), InputError, "did you mean 'Unet'"),
    "no weights": ("smp", lambda p: folder(p, weights=False), InputError, "is missing"),
    "weights of another": ("smp", lambda p: folder(p, classes=4), ModelError, "do not fit"),
    "settings of none": ("smp", lambda p: folder(p, colour=1), ModelError, "cannot be built"),
    "an encoder of a hub": (
        "smp",
        lambda p: folder(p, encoder_name="tu-hf-hub:somebody/something"),
        InputError,
        "encoder 'tu-hf-hub:somebody/something'; expected the name of one that smp has itself",
    ),
    "weights of the encoder elsewhere": ("smp", lambda p: folder(p, checkpoint_path="a"), InputError, "elsewhere"),
    "a backbone of a hub": (
        "huggingface",
        lambda p: folder(p, backbone_config={"backbone": "somebody/something"}),
        InputError,
        "backbone 'somebody/something' lies elsewhere",
    ),
    "a backbone with weights of others": (
        "huggingface",
        lambda p: folder(p, parts=[{"use_pretrained_backbone": True}]),
        InputError,
        "use_pretrained_backbone has weights fetched",
    ),
    "probabilities": ("smp", lambda p: folder(p, activation="softmax"), InputError, "of logits"),
    "nothing there": ("smp", lambda p: p / "nowhere", InputError, "does not exist"),
    "options of a kind that knows": ("dynamic-world", lambda p: p, InputError, "leave it out"),
    "an unknown kind": ("onx", lambda p: p, InputError, "did you mean 'onnx'"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore")  # of transformers
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str) -> None:
    kind, make, error, message = BAD[name]
    source = make(tmp_path)
    with pytest.raises(error, match=message):
        brought(kind, source, out=tmp_path / "out", architecture="resnet18" if kind == "timm" else None)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("executed"))


@pytest.mark.parametrize("kind", ["smp", "huggingface"])
def test_no_hub_is_asked_while_a_network_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from huggingface_hub import constants
    from transformers import AutoModelForSemanticSegmentation

    seen: list[bool] = []

    def build(*_: Any, **__: Any) -> None:
        seen.append(constants.is_offline_mode())
        raise ValueError("seen")

    monkeypatch.setattr(smp.Unet, "__init__", build)
    monkeypatch.setattr(AutoModelForSemanticSegmentation, "from_pretrained", build)
    (tmp_path / "config.json").write_text(json.dumps({"_model_class": "Unet"}))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(ModelError, match="seen"):
        brought(kind, tmp_path, out=tmp_path / "out")
    assert seen == [True]
    assert before == constants.HF_HUB_OFFLINE


def test_networks_of_timm_that_end_otherwise_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit", in_chans=2, num_classes=3).state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match="does not end in an average over cells and a linear layer"):
        brought("timm", tmp_path / "net.pth", out=tmp_path / "out", architecture="test_vit", chip_size=160)
    with pytest.raises(InputError, match="not known"):
        brought("timm", tmp_path / "net.pth", out=tmp_path / "out", architecture="test_vitt")


def test_a_file_that_looks_like_nothing_needs_its_kind(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(InputError, match="expected a kind before it"):
        brought(tmp_path / "weights.pth", out=tmp_path / "out")


def test_every_operator_has_the_name_of_one_of_onnx() -> None:
    assert set(STEPS) <= {schema.name for schema in onnx.defs.get_all_schemas()}
