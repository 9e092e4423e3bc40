"""What `train` and `evaluate` say from their first line to the next command."""

import json
import re
import shlex

from seaanchor.cli.app import app

SMALL = ("--num-steps", "1", "--max-steps", "2", "--batch-size", "4", "--log-every", "1", "--device", "cpu")


def values(out: str) -> dict[str, list[str]]:
    """What stands behind the names of a header or summary."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+) {2,}(\S.*)$", out, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_a_run_and_its_evaluation_say_what_they_do_and_what_comes_next(run, clip_folder, image_folder, tmp_path):
    train = image_folder.rename(tmp_path / "train")
    (tmp_path / "test").symlink_to(train)  # the split beside it
    output = tmp_path / "a run"
    code, out, errors = run(
        "train", "lore", "--model", clip_folder, "--train-data", train, "--output", output, *SMALL, "--rho", "0.2"
    )
    assert code == 0, errors
    said = values(out)
    assert said["model"] == [f"{clip_folder}, 32 px"]
    assert said["data"] == [f"{train}: 12 images of 3 classes"]
    assert said["device"] == ["cpu, fp32"]
    assert said["steps"] == ["2 of 4 images"]
    assert said["output"] == [str(output)]
    assert "anchor lagrangian with ρ = 0.2, perturbation pgd at ε = 2/255 (linf)" in said["method"][0]
    assert out.index("model ") < out.index("     1/2  loss ") < out.index("done: ")
    assert re.match(r"2 steps in 0:\d\d, loss \d+\.\d{3} to \d+\.\d{3}, clean distance", said["trained"][0])
    assert said["export"] == [str(output / "export")]
    assert "embedded" not in out
    following = shlex.split(out.strip().splitlines()[-1].partition("reference: ")[2])
    assert following == ["seaanchor", "evaluate", "--model", str(output / "export"), "--data", str(tmp_path / "test")]
    code, out, errors = run(*following[1:], "--suite", "clean,pgd", "--epsilon", "1/255,2/255", "--num-steps", "1")
    assert code == 0, errors
    said = values(out)
    assert said["model"] == [f"{output / 'export'}, 32 px, reference {clip_folder}"]
    assert said["data"] == [f"{tmp_path / 'test'}: 12 images of 3 classes"]
    assert said["measures"] == ["clean, pgd (ℓ∞, ε = 1/255, 2/255; 1 steps)"]
    assert said["device"][0].endswith(", fp32, 100 images at a time")
    assert said["output"] == [str(output / "evaluation")]
    following = shlex.split(out.strip().splitlines()[-1].partition("page: ")[2])
    assert following == ["seaanchor", "report", str(output)]
    assert app.parse_args(following[1:], exit_on_error=False, print_error=False)


def test_a_recipe_alone_says_that_it_trains_the_embedded_model(run, monkeypatch, tmp_path):
    import seaanchor.api as module
    import seaanchor.evaluation.advice as advice

    monkeypatch.setattr(module, "train_from_config", lambda config: tmp_path)
    monkeypatch.setattr(advice, "evaluation_command", lambda folder: "")
    monkeypatch.setattr(advice, "training_images_note", lambda folder, command: "")
    line = (
        "trains the embedded model seaanchor-tiny on the embedded set photos-mini; --model and --train-data name others"
    )
    assert run("train", "lore")[1].splitlines()[0] == line
    for own in (("--train-data", str(tmp_path)), ("--model", "ViT-B-32", "--pretrained", "openai")):
        assert "trains the embedded" not in run("train", "lore", *own)[1]


def test_an_output_that_ends_in_json_is_that_file(run, clip_folder, image_folder, tmp_path):
    arguments = ("evaluate", "--model", clip_folder, "--reference", clip_folder, "--data", image_folder)
    file = tmp_path / "results" / "mine.json"
    code, out, errors = run(*arguments, "--suite", "clean", "--output", file)
    assert code == 0, errors
    assert [path.name for path in file.parent.iterdir()] == ["mine.json"]
    result = json.loads(file.read_text())
    assert result["clean"]["n"] == result["reference"]["clean"]["n"] == 12
    assert f"results: {file}" in out
    following = shlex.split(out.strip().splitlines()[-1].partition("page: ")[2])
    page = ["seaanchor", "report", str(file), "--output", str(file.with_suffix(".html"))]
    assert following == [*page, "--allow", str(clip_folder)]
    for more, found in (
        (("--data", image_folder, tmp_path), "2 results for one file"),
        (("--data", image_folder, "--skip-existing"), "--skip-existing beside the file"),
    ):
        code, _, errors = run("evaluate", "--model", clip_folder, *more, "--output", file)
        assert code == 2 and found in errors
