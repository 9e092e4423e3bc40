"""Hostile files by category. What they carry is harmless: it would leave a marker, fetch nothing and change nothing."""

import json
import os
import pickle
import re
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from seaanchor.errors import PROTECTIONS
from tools.campaign.inputs import inside
from tools.campaign.material import Material, make
from tools.campaign.outcome import Options, Outcome, answer, command

MARKUP = "<script>document.title='ran'</script>"
CONTROL = "\x1b[31mred\x1b[0m"
ADVICE = re.compile(
    rf"(?:{PROTECTIONS.pattern})(?:(?<==)|\s*=)|change:.*(?:{PROTECTIONS.pattern})", re.IGNORECASE | re.DOTALL
)
"""To set what protects, in a library's words or in ours; what was found may have its name."""
Try = tuple[str, Callable[[], Any]]


class _Marks:
    """What a pickle of it does when it is opened: it leaves a marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def hostile_files(options: Options, folder: Path) -> Outcome:
    """Every category once: nothing in it runs, is fetched, leaves its folder or reaches a page or a terminal raw."""
    outcome = Outcome("hostile files")
    found, marker = make(folder / "whole"), folder / "marker"
    every = [*_code(found, folder, marker), *_places(found, folder, marker), *_texts(found, folder)]
    for name, call in every:
        with inside(folder), _calls() as calls:
            kind, said = answer(call)
        wrong = f"{name}: {said}" if kind == "crashed" else None
        if ADVICE.search(said):
            wrong = f"{name}: advice to switch a protection off: {said[:200]}"
        if marker.exists():
            marker.unlink()
            wrong = f"{name}: its code ran"
        if calls:
            wrong = f"{name}: it asked for {calls[0]}"
        outcome.add(wrong)
    return outcome


@contextmanager
def _calls() -> Iterator[list[str]]:
    """Addresses that somebody tries to reach inside; none is."""
    asked: list[str] = []
    before = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            asked.append(str(address))
        raise OSError("no network in the campaign")

    socket.socket.connect = connect  # type: ignore[method-assign, assignment]
    try:
        yield asked
    finally:
        socket.socket.connect = before  # type: ignore[method-assign]


def _copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def _code(found: Material, folder: Path, marker: Path) -> Iterator[Try]:
    """Files that would run something."""
    program = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    pickled = folder / "weights.pt"
    pickled.write_bytes(pickle.dumps({"weight": _Marks(marker)}))
    yield (
        "pickle as weights",
        command("export", "--model", "ViT-B-32", "--pretrained", pickled, "--output", folder / "x"),
    )
    head = ("evaluate", "--model", "seaanchor-tiny", "--data", "photos-mini", "--samples", 4, "--head", pickled)
    yield "pickle as a head", command(*head)
    checkpoint = _copied(found.run, folder / "pickled_run")
    for file in (*checkpoint.glob("checkpoints/*"), checkpoint / "linear_map.safetensors"):
        shutil.copy(pickled, file)
    yield "pickle as a map", command("steer", checkpoint, "--t", 0.5, "--output", folder / "x")
    resumed = ("train", "dpo-linear-tiny", "--train-data", "photos-mini", "--output", checkpoint, "--resume", "auto")
    yield "pickle as a checkpoint", command(*resumed)
    for name, file in (
        ("open_clip", "open_clip_pytorch_model.bin"),
        ("hf", "pytorch_model.bin"),
        ("timm", "model.bin"),
    ):
        place = _copied(found.models / name, folder / f"pickled_{name}")
        for whole in place.glob("*.safetensors"):
            whole.unlink()
        shutil.copy(pickled, place / file)
        yield (
            f"pickle in a folder of {name}",
            command("export", "--model", _named(name, place), "--output", folder / "x"),
        )
    yield from _remote_code(found, folder, program)
    plugin = _copied(found.run, folder / "plugin_run")
    (plugin / "mark.py").write_text(program)
    settings = yaml.safe_load((plugin / "config.yaml").read_text()) | {"plugins": [str(plugin / "mark.py")]}
    (plugin / "config.yaml").write_text(yaml.safe_dump(settings))
    yield "plugin in a run, report", command("report", plugin, "--gallery", 1)
    measure = ("evaluate", "--model", plugin / "export", "--data", "photos-mini", "--samples", 4, "--suite", "clean")
    yield "plugin in a run, evaluate", command(*measure)
    (folder / "tagged.yaml").write_text(f"model: !!python/object/apply:pathlib.Path.touch [{marker}]\n")
    yield "tag in a recipe", command("recipes", "validate", folder / "tagged.yaml")


def _named(library: str, place: Path) -> str:
    return {"open_clip": "local-dir:", "hf": "hf:", "timm": "timm:local-dir:"}[library] + str(place)


def _remote_code(found: Material, folder: Path, program: str) -> Iterator[Try]:
    """Configurations that ask for code of their own."""
    place = _copied(found.models / "open_clip", folder / "trusting")
    config = json.loads((place / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = str(place)
    (place / "open_clip_config.json").write_text(json.dumps(config))
    (place / "mark.py").write_text(program)
    asked = json.loads((place / "tokenizer_config.json").read_text()) | {"auto_map": {"AutoTokenizer": "mark.Mark"}}
    (place / "tokenizer_config.json").write_text(json.dumps(asked))
    yield "tokenizer with code, OpenCLIP", command("export", "--model", f"local-dir:{place}", "--output", folder / "x")
    files = {"config.json": "AutoModel", "tokenizer_config.json": "AutoTokenizer"}
    files["preprocessor_config.json"] = "AutoImageProcessor"
    for file, kind in files.items():
        place = _copied(found.models / "hf", folder / f"code_{kind}")
        (place / "mark.py").write_text(program)
        said = json.loads((place / file).read_text()) if (place / file).is_file() else {}
        (place / file).write_text(json.dumps(said | {"auto_map": {kind: "mark.Mark"}}))
        yield f"code in {file}, transformers", command("export", "--model", f"hf:{place}", "--output", folder / "x")


def _places(found: Material, folder: Path, marker: Path) -> Iterator[Try]:
    """Rows, members and names that lead elsewhere."""
    outside = folder / "outside.png"
    shutil.copy(found.data / "images" / "zebra" / "0.png", outside)
    os.mkfifo(found.data / "pipe.png")
    for name in (
        "../outside.png",
        str(outside),
        "http://127.0.0.1:9/a.png",
        "pipe.png",
        "/dev/zero",
        "file:///etc/hosts",
    ):
        rows = found.data / "elsewhere.jsonl"
        rows.write_text(json.dumps({"image": name, "chosen": "a", "rejected": "b"}) + "\n")
        yield f"row that names {name[:12]}", _refused(command("data", "inspect", rows))
    shard = found.data / "leaving.tar"
    with tarfile.open(shard, "w") as archive:
        for name in ("../marker", "a.png", "a.cls"):
            archive.add(outside if name != "a.cls" else found.data / "names.txt", name)
    yield "shard whose member leaves", command("data", "inspect", shard)
    config = _copied(found.models / "open_clip", folder / "fetching")
    said = json.loads((config / "open_clip_config.json").read_text())
    said["model_cfg"]["vision_cfg"] |= {"timm_model_name": "hf-hub:nobody/nothing", "timm_model_pretrained": True}
    (config / "open_clip_config.json").write_text(json.dumps(said))
    yield (
        "tower from elsewhere",
        _refused(command("export", "--model", f"local-dir:{config}", "--output", folder / "x")),
    )


def _refused(call: Callable[[], None]) -> Callable[[], None]:
    """The call, which has to end with a message: taking the file would be the fault."""

    def both() -> None:
        call()
        raise RuntimeError("it was taken")

    return both


def _texts(found: Material, folder: Path) -> Iterator[Try]:
    """Names that would be obeyed by a page or a terminal."""
    result = next((found.run / "evaluation").glob("*export*.json"))
    said = json.loads(result.read_text())
    said["dataset"] = said["model"] = said["skipped"] = MARKUP
    said["notes"], said["protocol"]["class_names"] = [MARKUP], [MARKUP, "b"]
    shown = folder / "markup.json"
    shown.write_text(json.dumps(said))

    def page() -> None:
        command("report", shown, "--output", folder / "page.html")()
        if MARKUP in (folder / "page.html").read_text():
            raise RuntimeError("markup reaches the page")

    yield "markup in a result", page
    for name in (CONTROL, MARKUP.replace("/", "")):
        place = found.data / "named"
        shutil.rmtree(place, ignore_errors=True)
        _copied(found.data / "images", place)
        (place / "zebra").rename(place / name)

        def listed(place: Path = place) -> None:
            import contextlib
            import io

            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                kind, message = answer(command("data", "inspect", place))
            if kind == "crashed" or "\x1b" in said.getvalue() + message:
                raise RuntimeError(message or "control characters reach the terminal")

        yield "control characters in a class" if name == CONTROL else "markup in a class", listed
