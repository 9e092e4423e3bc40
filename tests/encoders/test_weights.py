"""One reader for all containers and prefixes; what is no set of plain weights is called what it is, and nothing is left
as it was in silence."""

import argparse
import json
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seaanchor.encoders.weights import load_strictly, read_weights
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.checkpoint import save_state

STATE = {
    "conv.weight": torch.arange(4.0).view(2, 2),
    "conv.bias": torch.tensor([1.0, -1.0]),
    "scale": torch.tensor(2.0),
}
RAW = {key: value + 1 for key, value in STATE.items()}
OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
CONTAINERS = {
    "plain": lambda state: state,
    "ordered": OrderedDict,
    "model": lambda state: {"model": state},
    "state_dict": lambda state: {"epoch": 3, "name": "x", "state_dict": state, "optimizer": OPTIMIZER},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": OPTIMIZER, "loss": 0.3},
    "nested": lambda state: {"state_dict": {"model": state}, "epoch": torch.tensor(3)},
    "vision_encoder": lambda state: {"state_dict": {}, "vision_encoder_state_dict": state, "best_acc1": np.float64(3)},
    "timm": lambda state: {"state_dict": state, "args": argparse.Namespace(lr=0.1), "optimizer": OPTIMIZER},
    "teacher": lambda state: {"teacher": state, "optimizer": OPTIMIZER},
}
PREFIXES = ("", "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model.module._orig_mod.")


@pytest.fixture(autouse=True)
def _fresh_notes():
    note.cache_clear()


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def same(found, expected=STATE):
    return set(found) == set(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_and_prefix_gives_the_same_weights(tmp_path, container, prefix):
    torch.save(CONTAINERS[container](prefixed(STATE, prefix)), tmp_path / "w.pt")
    weights = read_weights(tmp_path / "w.pt")
    assert same(weights.state)
    assert ("took" in weights.said) == (container not in ("plain", "ordered"))
    assert ("removed the prefix" in weights.said) == bool(prefix)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors_by_content_and_by_ending(tmp_path, prefix, name):
    save_file(prefixed(STATE, prefix), tmp_path / name, metadata={"format": "pt"})
    assert same(read_weights(str(tmp_path / name)).state)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_the_length_of_a_header_is_no_mark_of_another_format(tmp_path, name):
    """Eight bytes of it begin the file: 0x80 begins a pickle, too."""
    begun = set()
    for length in range(0, 256, 8):
        save_file({"a.weight": torch.ones(2)}, tmp_path / name, metadata={"format": "pt", "fill": "x" * length})
        begun.add((tmp_path / name).read_bytes()[0])
        assert read_weights(tmp_path / name).state["a.weight"].tolist() == [1, 1]
    assert 0x80 in begun


def test_weights_in_several_files(tmp_path):
    keys = list(STATE)
    save_file({key: STATE[key] for key in keys[:1]}, tmp_path / "a.safetensors")
    save_file({key: STATE[key] for key in keys[1:]}, tmp_path / "b.safetensors")
    index = {"weight_map": {key: "a.safetensors" if key == keys[0] else "b.safetensors" for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(read_weights(tmp_path / "model.safetensors.index.json").state)


def test_prefixes_are_parts_of_names_elsewhere(tmp_path):
    state = {"model.a": torch.ones(1), "head.model.b": torch.ones(1)}
    torch.save(state, tmp_path / "w.pt")
    assert same(read_weights(tmp_path / "w.pt").state, state)  # not all keys begin with it: a layer's own name
    torch.save({"visual._orig_mod.a": torch.ones(1), "text.b": torch.ones(1)}, tmp_path / "part.pt")
    assert set(read_weights(tmp_path / "part.pt").state) == {"visual.a", "text.b"}


def test_torchs_own_average_counts_beside_the_weights(tmp_path):
    average = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2))
    torch.save(average.state_dict(), tmp_path / "w.pt")
    assert same(read_weights(tmp_path / "w.pt").state, average.module.state_dict())


@pytest.mark.parametrize(("average", "raw"), [("state_dict_ema", "state_dict"), ("model_ema", "model")])
def test_averaged_weights_beside_raw_ones(tmp_path, caplog, average, raw):
    file = tmp_path / "w.pt"
    torch.save({raw: prefixed(RAW, "module."), average: prefixed(STATE, "module."), "epoch": 1}, file)
    weights = read_weights(file)
    assert same(weights.state)
    assert weights.said == f"{file}: took {average}, removed the prefix module., not {raw}, which {file}#{raw} gives"
    assert weights.said in [record.getMessage() for record in caplog.records]
    assert same(read_weights(f"{file}#{raw}").state, RAW)
    with pytest.raises(SeaAnchorError, match=f"one of {raw}, {average}"):
        read_weights(f"{file}#teacher")
    (tmp_path / "odd#name.pt").write_bytes(file.read_bytes())
    assert same(read_weights(tmp_path / "odd#name.pt").state)


def test_several_sets_of_weights_are_never_chosen_from(tmp_path):
    torch.save({"student": RAW, "teacher": STATE, "optimizer": OPTIMIZER}, tmp_path / "w.pt")
    with pytest.raises(SeaAnchorError, match=r"several sets of weights: student, teacher") as caught:
        read_weights(tmp_path / "w.pt")
    assert f"write {tmp_path / 'w.pt'}#student" in caught.value.change
    assert same(read_weights(f"{tmp_path / 'w.pt'}#teacher").state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_fp32(tmp_path, dtype):
    torch.save({key: value.to(dtype) for key, value in STATE.items()}, tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt").state
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert same(found)


def test_whole_numbers_and_what_is_no_tensor(tmp_path, caplog):
    torch.save(STATE | {"bn.num_batches_tracked": torch.tensor(3), "version": 2, "names": ["a"]}, tmp_path / "w.pt")
    weights = read_weights(tmp_path / "w.pt")
    assert weights.state["bn.num_batches_tracked"].dtype is torch.int64
    assert "left out version, names, no tensors" in weights.said
    assert weights.said in caplog.text


def int8(key="conv.weight"):
    return {**STATE, key: torch.ones(2, 2, dtype=torch.int8)}


QUANTISED = {
    "int8": (int8(), "quantised (int8: conv.weight)"),
    "int8 with scales": (int8() | {"conv.weight_scale": torch.ones(2)}, "8-bit or 4-bit quantisation"),
    "bitsandbytes 8": (int8() | {"conv.SCB": torch.ones(2)}, "bitsandbytes"),
    "bitsandbytes 4": (
        {
            "conv.weight": torch.ones(2, 1, dtype=torch.uint8),
            "conv.weight.absmax": torch.ones(1),
        },
        "bitsandbytes",
    ),
    "gptq": ({"conv.qweight": torch.ones(2, 2, dtype=torch.int32), "conv.g_idx": torch.ones(2)}, "GPTQ or AWQ"),
    "awq": ({"conv.qweight": torch.ones(2, 2, dtype=torch.int32), "conv.scales": torch.ones(2)}, "GPTQ or AWQ"),
    "float8": ({"conv.weight": torch.ones(2, 2).to(torch.float8_e4m3fn)}, "float8_e4m3fn"),
    "qint8": (lambda: {"conv.weight": torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)}, "qint8"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch, about quantised tensors
@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_weights_are_refused_by_name(tmp_path, kind):
    state, words = QUANTISED[kind]
    state = state() if callable(state) else state
    torch.save({"state_dict": prefixed(state, "module.")}, tmp_path / "w.pt")
    with pytest.raises(SeaAnchorError) as caught:
        read_weights(tmp_path / "w.pt")
    assert words in caught.value.found
    assert "fp16 or bf16" in caught.value.expected


class Net(nn.Module):
    """A class of the user's own, as a whole pickled model names it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Linear(2, 2)

    def forward(self, x):
        return self.conv(x)


def write_torchscript(path: Path, net: nn.Module) -> None:
    torch.jit.save(torch.jit.trace(net.eval(), torch.rand(1, 2)), path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
def test_a_torchscript_archive_is_called_one_and_the_advice_converts_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = Net()
    write_torchscript(tmp_path / "script.pt", net)
    with pytest.raises(SeaAnchorError, match="is a TorchScript archive") as caught:
        read_weights("script.pt")
    _follow(caught.value.change, tmp_path)
    assert same(read_weights(tmp_path / "script-weights.pt").state, net.state_dict())


def _follow(advice: str, folder: Path) -> None:
    """Run the command that an error names."""
    code = advice.split('python -c "')[1].removesuffix('"')
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, check=True)


def test_a_pickled_model_is_called_one_and_the_advice_converts_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = nn.Linear(2, 2)
    torch.save(net, tmp_path / "whole.pt")
    with pytest.raises(SeaAnchorError, match=r"pickled objects \(torch.nn.modules.linear.Linear\)") as caught:
        read_weights("whole.pt")
    assert "its code runs" in caught.value.change
    _follow(caught.value.change, tmp_path)
    assert same(read_weights(tmp_path / "weights.pt").state, net.state_dict())
    torch.save({"model": Net()}, tmp_path / "own.pt")
    with pytest.raises(SeaAnchorError, match=r"test_weights\.Net"):
        read_weights(tmp_path / "own.pt")
    (tmp_path / "own.pkl").write_bytes(pickle.dumps(STATE))
    with pytest.raises(SeaAnchorError, match=r"Python pickle and not a file"):
        read_weights(tmp_path / "own.pkl")


def test_the_format_before_archives(tmp_path):
    torch.save({"state_dict": STATE}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(read_weights(tmp_path / "old.pt").state)
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(SeaAnchorError, match="pickled objects"):
        read_weights(tmp_path / "whole.pt")


@pytest.mark.parametrize("finished", [True, False])
def test_a_training_checkpoint_points_to_the_export(tmp_path, finished):
    file = tmp_path / "checkpoints" / "step-00000200.safetensors"
    save_state(file, {"policy": STATE, "step": 200})
    if finished:
        (tmp_path / "export").mkdir()
    with pytest.raises(SeaAnchorError, match="is a training checkpoint of Sea Anchor") as caught:
        read_weights(file)
    assert caught.value.change == (f"name {tmp_path}/export" if finished else caught.value.change)
    assert "export" in caught.value.change


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.pt", b"", "is empty"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ("w.bin", b"<!DOCTYPE html><html>", "web page"),
        ("w.pt", b"GGUF" + b"\0" * 80, "GGUF"),
        ("w.h5", b"\x89HDF\r\n", "HDF5"),
        ("w.onnx", b"\x08\x07", "ONNX"),
        ("w.msgpack", b"\x81", "Flax"),
        ("w.pt", b"no weights at all", "could not be read as weights"),
        ("w.safetensors", b"\xff\0\0\0\0\0\0\0{", "could not be read as weights"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeaAnchorError, match=words):
        read_weights(tmp_path / name)


def test_other_archives_folders_and_missing_files(tmp_path):
    np.savez(tmp_path / "flax.npz", a=np.zeros(2))
    with pytest.raises(SeaAnchorError, match="numpy arrays, as JAX"):
        read_weights(tmp_path / "flax.npz")
    with pytest.raises(SeaAnchorError, match="is a folder"):
        read_weights(tmp_path)
    with pytest.raises(SeaAnchorError, match="no such file"):
        read_weights(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({}, "holds no weights"),
        ({"state_dict": {}, "epoch": 3}, "holds no weights"),
        ({"optimizer": OPTIMIZER}, "holds no weights"),
        (torch.rand(3), "holds a tensor"),
        ([torch.rand(3)], "holds list"),
        ({"a.weight": torch.tensor([1.0, float("nan")])}, "a.weight in .* is not a number"),
        ({"base_model.model.q.lora_A.weight": torch.rand(2, 2)}, "LoRA adapter"),
    ],
)
def test_files_without_weights(tmp_path, held, words):
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(SeaAnchorError, match=words):
        read_weights(tmp_path / "w.pt")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(3, 3) for _ in range(10)), nn.BatchNorm1d(3))


def test_strict_loading_takes_exactly_the_modules_weights():
    donor, module = small(), small()
    donor[0].weight.data += 1
    state = {key: value for key, value in donor.state_dict().items() if not key.endswith("num_batches_tracked")}
    load_strictly(module, state, "small")
    assert all(torch.equal(a, b) for a, b in zip(donor.parameters(), module.parameters(), strict=True))


def test_weights_of_another_architecture_with_nine_tenths_of_the_keys():
    module = small()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    other = small().state_dict()
    del other["0.weight"], other["0.bias"]
    other |= {"first.weight": torch.rand(3, 3), "1.weight": torch.rand(3, 5)}
    with pytest.raises(SeaAnchorError) as caught:
        load_strictly(module, other, "small", "w.pt")
    assert "2 of 25 keys missing (0.weight, 0.bias)" in caught.value.found
    assert "1 of 24 keys that the model has not (first.weight)" in caught.value.found
    assert "1 of 25 keys of another shape (1.weight (3, 5) for (3, 3))" in caught.value.found
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())  # nothing half-loaded


def test_tied_weights_and_constants():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    module.register_buffer("mask", torch.ones(2), persistent=False)
    state = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2), "1.bias": torch.ones(2)}
    load_strictly(module, state | {"mask": torch.ones(2)}, "tied")
    assert torch.equal(module[1].weight, torch.ones(2, 2))
    with pytest.raises(SeaAnchorError, match="mask"):
        load_strictly(module, state | {"mask": torch.zeros(2)}, "tied")


@pytest.fixture
def timm_folder(tmp_path):
    """A ResNet-10-t as timm writes it, and its weights."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=4)
    settings = {"input_size": [3, 64, 64], "num_classes": 4, "classifier": "fc", "first_conv": "conv1.0"}
    config = {"architecture": "resnet10t", "num_classes": 4, "num_features": 512, "pretrained_cfg": settings}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path, {key: value.contiguous() for key, value in model.state_dict().items()}


def opened(folder, state, name="model.safetensors"):
    from seaanchor.encoders.load import load_model

    save_file(state, folder / name) if name.endswith("safetensors") else torch.save(state, folder / name)
    return load_model(f"timm:local-dir:{folder}").module.state_dict()


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_a_timm_folder_with_any_prefix(timm_folder, prefix):
    folder, state = timm_folder
    found = opened(folder, prefixed(state, prefix))
    assert all(torch.equal(value, state[key]) for key, value in found.items())
    (folder / "model.safetensors").unlink()
    raw = {key: value + 1 for key, value in state.items()}
    found = opened(folder, {"state_dict": prefixed(raw, prefix), "state_dict_ema": prefixed(state, prefix)}, "last.tar")
    assert all(torch.equal(value, state[key]) for key, value in found.items())


def test_a_timm_folder_is_never_completed_at_random(timm_folder):
    folder, state = timm_folder
    key = "layer1.0.conv1.weight"
    for wrong, words in (
        ({k: v for k, v in state.items() if k != key}, f"1 of .* keys missing .{key}."),
        (state | {"layer9.weight": torch.ones(2)}, "keys that the model has not .layer9.weight."),
        (state | {key: torch.ones(2, 2)}, "1 of .* keys of another shape"),
        (state | {key: state[key].to(torch.int8)}, "are quantised .int8"),
    ):
        with pytest.raises(SeaAnchorError, match=words):
            opened(folder, wrong)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SeaAnchorError, match=r"has no model.safetensors"):
        opened(folder, {}, "notes.txt")


def test_a_folder_of_weights_has_what_timm_sets_for_its_own_weights(tmp_path):
    """FBNet-C's batch normalisation has another epsilon where timm reads the weights itself."""
    import timm

    from seaanchor.encoders.load import load_model
    from seaanchor.export.folder import export_model

    model = load_model("timm:fbnetc_100", "none", 64)
    export_model(model, tmp_path / "export")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'export'}", pretrained=True).eval()
    ours = load_model(f"timm:local-dir:{tmp_path / 'export'}").module
    assert {m.eps for m in ours.modules() if hasattr(m, "eps")} == {
        m.eps for m in theirs.modules() if hasattr(m, "eps")
    }
    assert {m.eps for m in ours.modules() if hasattr(m, "eps")} == {1e-3}
