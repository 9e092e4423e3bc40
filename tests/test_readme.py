"""The Python of the README runs as it stands, but for a smaller model, smaller numbers and folders that are here."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

README = Path(__file__).parents[1] / "README.md"
SMALLER = {
    '"ViT-B-32", pretrained="openai"': '"seaanchor-tiny"',
    "steps=2_000": 'steps=2, batch_size=4, device="cpu"',
    "num_steps=100": "num_steps=2",
}


def block() -> str:
    """The lines that begin with the import."""
    found = [code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "as sa" in code]
    assert len(found) == 1, "one block with `import seaanchor as sa`"
    return found[0]


def photos(folder: Path) -> Path:
    """Four classes of two pictures of noise."""
    rng = torch.Generator().manual_seed(0)
    for name in ("airplane", "butterfly", "car", "dolphin"):
        (folder / name).mkdir(parents=True)
        for i in range(2):
            pixels = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8, generator=rng)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.slow
def test_the_ten_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block()
    for written, here in SMALLER.items():
        assert written in code, f"{written} is no longer in the README: change this test with it"
        code = code.replace(written, here)
    code = code.replace('"FOLDER"', repr(str(photos(tmp_path / "train")))).replace(
        '"TEST"', repr(str(photos(tmp_path / "test")))
    )
    torch.manual_seed(0)
    names = {
        "classifier": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5)),
        "images": torch.rand(3, 3, 8, 8),
        "labels": torch.tensor([0, 1, 2]),
        "image": Image.new("RGB", (96, 96), "grey"),
        "margin_B": torch.zeros(3),
    }
    exec(compile(code, "README.md", "exec"), names)
    robust = names["result"].robust["apgd", 2 / 255]
    assert 0 <= robust.low <= robust.accuracy <= robust.high <= 1 and robust.n == 8
    difference = (names["adversarial"] - names["images"]).abs().max().item()
    assert 0 < difference <= 4 / 255 + 1e-6
    assert names["lettered"].size == (96, 96) and names["lettered"] != names["image"]
    torch.testing.assert_close(names["loss_B"], torch.full((3,), 0.5).log().neg())
    assert (tmp_path / "out" / "open_clip_config.json").is_file()
