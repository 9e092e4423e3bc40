"""A model folder is data: whatever it asks for, nothing in it runs, and nobody is asked on the terminal whether it
may."""

import json
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from seaanchor.encoders.embedded import base_folder
from seaanchor.encoders.load import load_model
from seaanchor.encoders.openclip_text import open_tokenizer
from seaanchor.encoders.remote_code import HARMLESS, check_tokenizer_settings, remote_code_refused
from seaanchor.errors import SeaAnchorError

MARKER = "from pathlib import Path\nPath(__file__).with_name('it_ran').touch()\nMarked = None\n"


def with_tokenizer_code(folder: Path) -> Path:
    """The folder with a Python file that leaves a marker when it runs, and a tokenizer that names it."""
    (folder / "marker.py").write_text(MARKER)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Marked", "auto_map": {"AutoTokenizer": ["marker.Marked", None]}})
    )
    return folder


def ran(*folders: Path) -> list[Path]:
    """Markers in the folders and wherever transformers copies modules to."""
    copies = [
        Path(module.__file__).parent
        for name, module in sys.modules.items()
        if name.startswith("transformers_modules") and module.__file__
    ]
    return [file for folder in (*folders, *copies) for file in folder.rglob("it_ran")]


@pytest.fixture
def asking_folder(clip_folder, tmp_path) -> Path:
    """An OpenCLIP folder whose configuration asks for the tokenizer's code to be trusted."""
    folder = with_tokenizer_code(Path(shutil.copytree(clip_folder, tmp_path / "asks")))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": ".", "tokenizer_kwargs": {"trust_remote_code": True}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def nobody_is_asked(monkeypatch):
    def asked(*arguments):
        raise AssertionError("somebody was asked on the terminal")

    monkeypatch.setattr("builtins.input", asked)


def test_a_folder_that_asks_for_trust_is_refused_by_name(asking_folder):
    with pytest.raises(SeaAnchorError, match=r"sets trust_remote_code for its tokenizer.*\n.*only bpe_path, clean"):
        load_model(str(asking_folder))
    assert not ran(asking_folder)


@pytest.mark.parametrize("command", ["evaluate", "train", "export"])
def test_every_command_refuses_it(run, asking_folder, image_folder, tmp_path, command):
    arguments = {
        "evaluate": [
            "--model",
            asking_folder,
            "--data",
            image_folder,
            "--suite",
            "clean",
            "--output",
            tmp_path / "out",
        ],
        "train": [
            "tecoa",
            "--model",
            asking_folder,
            "--train-data",
            image_folder,
            "--output",
            tmp_path / "out",
            "--device",
            "cpu",
        ],
        "export": ["--model", asking_folder, "--output", tmp_path / "out"],
    }[command]
    code, _, errors = run(command, *arguments)
    assert code == 2
    assert "trust_remote_code" in errors
    assert not ran(asking_folder, tmp_path)


def test_a_tokenizer_that_brings_code_is_refused_without_a_question(clip_folder, tmp_path, nobody_is_asked):
    folder = with_tokenizer_code(Path(shutil.copytree(clip_folder, tmp_path / "brings")))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "."
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(SeaAnchorError, match=r"the tokenizer of .* could not be loaded"):
        load_model(str(folder))
    assert not ran(folder)


def test_a_hugging_face_folder_that_brings_code_is_refused_without_a_question(hf_folder, tmp_path, nobody_is_asked):
    folder = Path(shutil.copytree(hf_folder, tmp_path / "brings"))
    (folder / "tokenizer.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with_tokenizer_code(folder)
    with suppress(SeaAnchorError):  # transformers may also take the class of its own that goes with the model
        load_model(f"hf:{folder}")
    assert not ran(folder)


def test_the_reload_of_an_export_refuses_it(asking_folder):
    from seaanchor.export.folder import _reload_open_clip

    with pytest.raises(SeaAnchorError, match="trust_remote_code"):
        _reload_open_clip(asking_folder)
    assert not ran(asking_folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_fast": False},
        {"clean": ["lower"]},
        {"subfolder": "x"},
        ["trust_remote_code"],
        {"trust_remote_code": False},
    ],
)
def test_whatever_is_not_known_to_be_harmless_is_refused(settings):
    with pytest.raises(SeaAnchorError, match="tokenizer"):
        check_tokenizer_settings("m", {"tokenizer_kwargs": settings})


def test_what_open_clips_own_configurations_set_passes():
    import open_clip

    seen = set()
    for name in open_clip.list_models():
        text_cfg = open_clip.get_model_config(name).get("text_cfg", {})
        check_tokenizer_settings(name, text_cfg)
        seen |= set(text_cfg.get("tokenizer_kwargs", {}))
    assert seen and seen <= HARMLESS


def test_the_time_for_an_answer_is_put_back():
    from transformers import dynamic_module_utils

    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    with remote_code_refused():
        assert dynamic_module_utils.TIME_OUT_REMOTE_CODE == 0
    assert before == dynamic_module_utils.TIME_OUT_REMOTE_CODE > 0


@pytest.mark.parametrize("command", ["evaluate", "report", "train"])
def test_a_plugin_that_a_run_folder_names_is_not_executed(run, tiny_run, image_folder, tmp_path, command):
    import yaml

    from seaanchor.api import train_from_config
    from seaanchor.config.recipes import fare

    config = tiny_run(fare())
    folder = train_from_config(config)
    (folder / "marker.py").write_text(MARKER)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | {"plugins": [str(folder / "marker.py")]}))
    arguments = {
        "evaluate": ["--model", folder / "export", "--data", image_folder, "--suite", "clean", "--device", "cpu"],
        "report": [folder, "--gallery", "0"],
        "train": [
            "fare",
            "--model",
            config.model,
            "--train-data",
            config.train_data,
            "--output",
            folder,
            "--resume",
            "auto",
        ],
    }[command]
    code, _, errors = run(command, *arguments)
    assert (code, "names the plugin" in errors) == ((2, True) if command == "train" else (0, False)), errors
    assert not ran(folder)


@pytest.mark.parametrize("source", ["hf-hub:someone/something", "local-dir:/nowhere", "ViT-B-32"])
def test_settings_are_looked_at_before_any_tokenizer_is_made(source, monkeypatch):
    import open_clip

    made = []
    monkeypatch.setattr(open_clip, "get_tokenizer", made.append)
    with pytest.raises(SeaAnchorError, match="trust_remote_code"):
        open_tokenizer("m", source, {"tokenizer_kwargs": {"trust_remote_code": True}}, None, required=False)
    assert not made


def changed_config(folder: Path, **vision_or_text) -> Path:
    """The folder with other settings of its towers."""
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    for part, settings in vision_or_text.items():
        config["model_cfg"][part] |= settings
    file.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("tower", ["hf-hub:someone/something", "local-dir:/nowhere", "someone/something", 3])
def test_an_image_tower_from_elsewhere_is_refused(clip_folder, tmp_path, tower):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "elsewhere"))
    with pytest.raises(SeaAnchorError, match="as its image tower"):
        load_model(str(changed_config(folder, vision_cfg={"timm_model_name": tower})))


@pytest.mark.parametrize("setting", [{"hf_tokenizer_name": "nobody/nothing"}, {"hf_model_name": "nobody/nothing"}])
def test_a_folder_has_nothing_fetched(clip_folder, tmp_path, monkeypatch, setting):
    """Nor may a stranger's folder have the Hub told that it was opened."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **more: pytest.fail(f"{asked} was looked up"))
    folder = Path(shutil.copytree(clip_folder, tmp_path / "fetches"))
    with pytest.raises(SeaAnchorError, match=r"could not be loaded|is not on this disk"):
        load_model(str(changed_config(folder, text_cfg=setting)))
    assert constants.HF_HUB_OFFLINE is False


def test_a_text_tower_that_brings_code_is_refused_without_a_question(clip_folder, tmp_path, nobody_is_asked):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "brings"))
    (folder / "marker.py").write_text(MARKER)
    settings = {"model_type": "own", "auto_map": {"AutoConfig": "marker.Marked", "AutoModel": "marker.Marked"}}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(SeaAnchorError):
        load_model(str(changed_config(folder, text_cfg={"hf_model_name": str(folder)})))
    assert not ran(folder)


def test_a_borrowed_text_tower_lies_beside_the_folder(tmp_path):
    for name in ("../elsewhere", "/elsewhere", "a/b", ".."):
        with pytest.raises(SeaAnchorError, match="borrows the text tower"):
            base_folder(tmp_path, name)
    (tmp_path / "beside").mkdir()
    assert base_folder(tmp_path / "variant", "beside") == tmp_path / "beside"
