"""The command line: quick, forgiving, and one clear error for each mistake."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from seaanchor.config.io import from_dict
from seaanchor.config.recipes import RECIPES
from seaanchor.config.run_settings import read_settings
from seaanchor.config.schema import RunConfig

COMMANDS = [[], ["train"], ["train", "pretrain"], ["evaluate"], ["export"], ["quickstart"], ["recipes"], ["env"]]
COMMANDS += [["recipes", name] for name in ("ls", "cat", "cp", "validate")] + [
    ["cache"],
    ["cache", "ls"],
    ["cache", "clear"],
]
HEAVY = ("torch", "torchvision", "open_clip", "timm", "transformers", "matplotlib", "numpy", "PIL")


@pytest.fixture
def train(run, monkeypatch):
    """Runs `seaanchor train ...` up to the configuration it would train with."""
    import seaanchor.api as module
    import seaanchor.evaluation.advice as advice

    monkeypatch.setattr(advice, "evaluation_command", lambda folder: f"evaluate {folder}")  # there is no run to read
    monkeypatch.setattr(advice, "training_images_note", lambda folder, command: "")

    def call(*arguments: str) -> RunConfig:
        got = []
        monkeypatch.setattr(module, "train_from_config", lambda config: got.append(config) or Path("runs/x"))
        code, _, errors = run("train", *arguments)
        assert code == 0, errors
        (config,) = got
        return config

    return call


def program(*arguments: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "seaanchor.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **settings,
    )


def test_help_is_quick_and_imports_nothing_heavy():
    def seconds(*command: str) -> float:
        """Processor time: what else the machine does is not ours."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert subprocess.run([sys.executable, *command], capture_output=True, timeout=60, check=False).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    least = min(seconds("-c", "import cyclopts, rich.console") for _ in range(5))  # slower on a slow processor
    assert min(seconds("-m", "seaanchor.cli", "--help") for _ in range(5)) <= 3 * least
    heavy = ("torch", "open_clip", "timm", "transformers", "matplotlib", "numpy")
    code = f"import sys, seaanchor, seaanchor.cli.app; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_no_help_imports_anything_heavy():
    code = f"""
import contextlib, io, sys
from seaanchor.cli import app as cli
for command in {[*COMMANDS, ["sweep"], ["report"], ["steer"], ["data", "inspect"], ["attack", "typographic"]]}:
    sys.argv = ["seaanchor", *command, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        cli.main()
    assert out.getvalue().startswith("Usage: seaanchor"), command
print([m for m in {HEAVY} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_is_quick():
    code = "import time; t = time.process_time(); import seaanchor; print(time.process_time() - t)"
    assert (
        min(
            float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        )
        <= 0.1
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert out.startswith("Usage: seaanchor")
    name = command[-1] if command else "seaanchor"
    assert name in out
    assert len(out.splitlines()) > 3


def test_help_names_every_setting_with_its_meaning(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run("train", "--help")
    for flag in (
        "--model",
        "--pretrained",
        "--train-data",
        "--batch-size",
        "--epochs",
        "--lr",
        "--wd",
        "--warmup",
        "--precision",
        "--workers",
        "--seed",
        "--resume",
        "--report-to",
        "--device",
        "--perturbation.epsilon",
        "--anchor.rho",
    ):
        assert flag in out, flag
    _, out, _ = run("evaluate", "--help")
    assert "--skip-existing" in out


def test_version(run):
    from seaanchor import __version__

    assert run("--version")[1].strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "fare", "--lrr", "3"], ["--lrr", "did you mean --lr?"]),
        (["train", "fare", "--perturbatoin.epsilon", "4/255"], ["did you mean --perturbation.epsilon?"]),
        (["train", "far"], ["no recipe is called 'far'", "did you mean fare?"]),
        (["train", "zzz"], ["no recipe is called 'zzz'", "recipes ls"]),
        (["train", "missing.yaml"], ["missing.yaml is missing"]),
        (["train"], ["RECIPE"]),
        (["train", "fare", "lore"], ["lore"]),
        (["train", "fare", "--perturbation.epsilon", "4"], ["perturbation.epsilon 4", "did you mean 4/255?"]),
        (["train", "fare", "--perturbation.epsilon", "x"], ["epsilon 'x'"]),
        (["train", "fare", "--objective.kind", "tekoa"], ["tecoa"]),
        (["train", "fare", "--batch-size", "abc"], ["--batch-size", "abc"]),
        (["train", "fare", "--batch-size", "0"], ["batch_size is 0"]),
        (["train", "fare", "--perturbation.kind", "none"], ["the policy already is the reference"]),
        (["evalute"], ["no command 'evalute'", "did you mean evaluate?"]),
        (["evaluate", "--data", "x"], ["--model"]),
        (["evaluate", "--model", "x", "--data", "x", "--suite", "clen"], ["unknown suite clen", "did you mean clean?"]),
        (["evaluate", "--model", "x", "--data", "x", "--suite", ","], ["unknown suite ','"]),
        (["evaluate", "--model", "x", "--data", "x", "--epsilon", "2"], ["epsilon 2", "did you mean 2/255?"]),
        (["evaluate", "--model", "x", "--data", "x", "--batch-size", "0"], ["--batch-size 0"]),
        (["evaluate", "--model", "x", "--data", "x", "--num-steps", "-1"], ["--num-steps -1"]),
        (["evaluate", "--model", "x", "--data", "x", "--num-queries", "0"], ["--num-queries 0"]),
        (["evaluate", "--model", "x", "--data", "emoji", "--templates", "a photo"], ["'a photo' has no {}"]),
        (["evaluate", "--model", "x", "y", "x", "--data", "emoji"], ["the model x is named twice"]),
        (["evaluate", "--model", "x", "--data", "emoji", "--device", "gpu"], ["device 'gpu'"]),
        (["evaluate", "--model", "ViT-B-33", "--data", "emoji"], ["no model is called 'ViT-B-33'", "nearest names"]),
        (["export", "--model", "ViT-B-33", "--output", "x"], ["no model is called 'ViT-B-33'"]),
        (["recipes", "cat", "lor"], ["did you mean lore?"]),
        (["recipes", "validate", "missing.yaml"], ["missing.yaml is missing"]),
        (["recipes", "validate", "fare-tiyn"], ["no recipe is called", "did you mean fare-tiny?"]),
    ],
    ids=lambda value: (
        " ".join(value)[:50] if value and value[0] in ("train", "evalute", "evaluate", "export", "recipes") else ""
    ),
)
def test_mistakes(run, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, errors = run(*arguments)
    assert code == 2
    assert out == ""
    assert errors.startswith("error: ")
    assert errors.count("error: ") == 1
    assert "Traceback" not in errors
    for word in words:
        assert word in errors
    assert not list(tmp_path.iterdir())  # nothing was written


def test_mistakes_end_the_program_with_code_2():
    for arguments in (["train", "far"], ["train", "fare", "--lrr", "3"]):
        result = program(*arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_by_name_is_that_recipe(train, name):
    assert train(name) == RECIPES[name]()


def test_flags_override_the_recipe_wherever_it_stands(train):
    expected = replace(RECIPES["lore"](), lr=3e-4, batch_size=7)
    assert train("lore", "--lr", "3e-4", "--batch-size", "7") == expected
    assert train("--lr", "3e-4", "lore", "--batch-size", "7") == expected
    assert train("--lr", "3e-4", "--batch-size", "7", "lore") == expected
    nested = train("lore", "--anchor.rho", "0.3", "--perturbation.epsilon", "8/255")
    assert nested.anchor == replace(RECIPES["lore"]().anchor, rho=0.3)
    assert nested.perturbation == replace(RECIPES["lore"]().perturbation, epsilon="8/255")


@pytest.mark.parametrize("flag", [["--anchor.on", "distribution"], ["--anchor.on=distribution"]])
def test_a_flag_under_its_old_name_is_read(train, flag):
    assert train("lore", *flag).anchor == replace(RECIPES["lore"]().anchor, space="distribution")


def test_a_recipe_leaves_nothing_behind_for_the_next_one(train):
    assert train("lore").anchor.kind == "lagrangian"
    assert train("fare") == RECIPES["fare"]()


def test_lists_and_paths_from_the_command_line_and_from_yaml(train, tmp_path):
    flags = [
        "--val-data",
        "a",
        "--val-data",
        "b",
        "--eval-every",
        "9",
        "--templates",
        "a {}",
        "--class-names",
        "names.txt",
    ]
    config = train("fare", *flags, "--output", str(tmp_path / "o"))
    assert config.val_data == ("a", "b")
    assert config.templates == ("a {}",)
    assert config.output == tmp_path / "o"
    assert config.class_names == Path("names.txt")
    recipe = tmp_path / "mine.yaml"
    settings = {
        "val_data": ["a", "b"],
        "eval_every": 9,
        "output": "o",
        "class_names": "n.txt",
        "templates": ["{}", "a {}"],
        "anchor": {"kind": "penalty"},
    }
    recipe.write_text(yaml.safe_dump(settings))
    expected = RunConfig(
        val_data=("a", "b"), eval_every=9, output=Path("o"), class_names=Path("n.txt"), templates=("{}", "a {}")
    )
    assert train(str(recipe)) == replace(expected, anchor=replace(expected.anchor, kind="penalty"))
    assert train(str(recipe), "--val-data", "c").val_data == ("c",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: fast", ["lr is 'fast'"]),
        ("lrr: 3", ["unknown setting lrr", "did you mean lr?"]),
        ("anchor:\n  roh: 1", ["unknown setting anchor.roh", "rho?"]),
        ("anchor: lagrangian", ["anchor is 'lagrangian'"]),
        ("- a", ["holds list"]),
        ("a: [", ["could not be read as a recipe"]),
    ],
)
def test_a_recipe_file_with_a_mistake(run, tmp_path, text, words):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    for command in (["train"], ["recipes", "validate"]):
        code, _, errors = run(*command, str(file))
        assert code == 2
        for word in words:
            assert word in errors


def test_recipes_ls_cat_cp_and_validate(run, train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = run("recipes", "ls")[1]
    assert [line.split()[0] for line in listed.splitlines()] == list(RECIPES)
    assert all(len(line.split()) > 3 for line in listed.splitlines())
    for name in RECIPES:
        code, out, _ = run("recipes", "cp", name)
        assert (code, out.strip()) == (0, f"{name}.yaml")
        assert Path(f"{name}.yaml").read_text() == run("recipes", "cat", name)[1]
        code, out, _ = run("recipes", "validate", f"{name}.yaml")
        assert (code, out.strip()) == (0, f"{name}.yaml: valid")
        assert from_dict(RunConfig, read_settings(Path(f"{name}.yaml"))) == RECIPES[name]()
    first = next(iter(RECIPES))
    assert run("recipes", "validate", first)[:2] == (0, f"{first}: valid\n")
    assert train(f"{first}.yaml") == RECIPES[first]()
    assert run("recipes", "cp", first)[0] == 0  # it holds the same
    Path(f"{first}.yaml").write_text("mine: 1\n")
    assert run("recipes", "cp", first)[0] == 2  # never written over
    assert run("recipes", "cp", first, "other.yaml")[0] == 0
    code, _, errors = run("recipes", "cp", first, "no/such/folder.yaml")
    assert code == 2
    assert "no/such is no folder" in errors


def test_env_is_json(run):
    code, out, _ = run("env")
    assert code == 0
    assert json.loads(out)["versions"]["torch"]


def test_evaluate_and_export_end_to_end(run, clip_folder, image_folder, tmp_path):
    output = tmp_path / "results"
    arguments = [
        "evaluate",
        "--model",
        str(clip_folder),
        "--data",
        str(image_folder),
        "--output",
        str(output),
        "--batch-size",
        "6",
    ]
    attack = ["--suite", "clean, pgd", "--epsilon", "4/255,1/255", "--num-steps", "2"]
    code, out, errors = run(*arguments, *attack, "--samples", "9", "--seed", "5", "--templates", "{}", "a {}")
    assert code == 0, errors
    assert "PGD, 2 steps" in out
    assert "epsilon 0 equals" in out and "FAILED" not in out  # the table of checks
    (file,) = output.iterdir()
    result = json.loads(file.read_text())
    protocol = result["protocol"]
    assert protocol["plans"] == [
        {"name": "pgd", "norm": "linf", "epsilons": [1 / 255, 4 / 255], "num_steps": 2, "seed": 5, "precision": "fp32"}
    ]
    assert (protocol["samples"], protocol["seed"], protocol["templates"]) == (9, 5, ["{}", "a {}"])
    assert result["clean"]["n"] == 9
    code, out, errors = run("export", "--model", str(clip_folder), "--output", str(tmp_path / "export"), "--half")
    assert code == 0, errors
    assert "written and verified" in out
    code, _, errors = run(
        "evaluate", "--model", str(tmp_path / "export"), "--data", str(image_folder / "apple"), "--output", str(output)
    )
    assert code == 2
    assert "no class folders" in errors


def test_dry_run_on_gpus_that_are_elsewhere(run, clip_folder, tmp_path):
    """Without a GPU, weights or data; mistakes end with one error."""
    command = [
        "train",
        "fare",
        "--model",
        str(clip_folder),
        "--perturbation.num-steps",
        "1",
        "--output",
        str(tmp_path / "run"),
    ]
    code, out, errors = run(*command, "--dry-run-on", "2xH100", "--dry-run-images", "1000")
    assert code == 0, errors
    assert "2 x H100-SXM" in out and "1,000 images, 8 steps of 128 x 2" in out and not (tmp_path / "run").exists()
    for arguments, message in (
        (["--dry-run-on", "8xH1000"], "no GPU is called"),
        (["--dry-run-images", "5"], "without GPUs"),
    ):
        code, _, errors = run(*command, *arguments)
        assert code == 2 and errors.count("error:") == 1 and message in errors


def test_a_dry_run_on_a_gpu_that_holds_no_image_ends_with_one_error(run, clip_folder, tmp_path, monkeypatch):
    """The plan is printed all the same."""
    import seaanchor.profiling.plan as module
    from seaanchor.profiling.hardware import Fleet, Machine

    monkeypatch.setattr(module, "fleet", lambda text: Fleet(1, Machine("card", 1e12, 1e12, 1e11, 2**30, "by hand")))
    command = ("train", "fare", "--model", str(clip_folder), "--perturbation.num-steps", "1", "--dry-run-images", "99")
    code, out, errors = run(*command, "--output", str(tmp_path / "run"), "--dry-run-on", "card")
    assert code == 2 and errors.count("error:") == 1 and "fits         no: not even one image" in out
    assert "a step does not fit on card, even with one image at a time" in errors and "a GPU of 1.0" in errors


def test_training_that_holds_no_image_ends_with_one_error(run, clip_folder, image_folder, tmp_path, monkeypatch):
    """Before its first step, with the sizes that would do."""
    from seaanchor.profiling.fitting import fitted

    monkeypatch.setattr(fitted, "__defaults__", (lambda device: 0,))
    command = ("train", "fare", "--model", str(clip_folder), "--train-data", str(image_folder), "--device", "cpu")
    code, _, errors = run(*command, "--perturbation.num-steps", "1", "--output", str(tmp_path / "run"))
    assert code == 2 and errors.count("error:") == 1
    for part in ("does not fit into the memory of cpu, even with one image", "expected: about ", "what would fit: "):
        assert part in errors


def test_dry_run_rehearses_and_writes_nothing(run, monkeypatch, tmp_path):
    import seaanchor.profiling.dry_run as module

    got = []
    monkeypatch.setattr(module, "dry_run", got.append)
    assert run("train", "tecoa", "--dry-run", "--output", str(tmp_path / "run"))[0] == 0
    assert got == [replace(RECIPES["tecoa"](), output=tmp_path / "run")]
    assert not (tmp_path / "run").exists()


def test_interrupting_is_no_error(run, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    import seaanchor.utils.environment as module

    monkeypatch.setattr(module, "environment", interrupted)
    code, _, errors = run("env")
    assert code == 130
    assert errors == ""


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--data", "nowhere"], "nowhere is missing"),
        (["--samples", "0"], "--samples 0"),
        (["--num-steps", "-1"], "--num-steps -1"),
    ],
)
def test_a_sweep_looks_at_its_evaluation_before_it_trains(run, tmp_path, flags, found):
    data = [] if "--data" in flags else ["--data", "photos-mini"]
    code, _, errors = run(
        "sweep", "dpo-tiny", "--vary", "objective.beta=0.1", "--output", str(tmp_path / "sweep"), *data, *flags
    )
    assert code == 2 and found in errors and not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    "command", [["train"], ["sweep", "dpo", "--data", "photos-mini", "--vary", "lr=1e-4"]], ids=["train", "sweep"]
)
def test_two_sizes_on_the_command_line_are_taken_and_judged_by_us(run, command, tmp_path):
    arguments = [
        *(command if len(command) > 1 else ["train", "dpo"]),
        "--output",
        tmp_path / "run",
        "--perturbation.sizes",
    ]
    code, _, errors = run(*arguments, "0.3", "0.1")
    assert code == 2 and "perturbation.sizes is (0.3, 0.1)" in errors and "0.09 0.18" in errors
    code, _, errors = run(*arguments, "0.1", "0.3", "--val-data", "a", "b")
    assert code == 2 and "evaluation while training without eval_every" in errors, "both sizes and both sets are taken"


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("cross_entropy", "typographic-ce"), ("cross-entropy", "typographic-ce"), ("embedding_distance", "fare")],
)
def test_the_name_of_an_objective_leads_to_its_recipe(run, name, recipe):
    code, _, errors = run("train", name)
    assert code == 2 and f"did you mean {recipe}?" in errors


@pytest.mark.parametrize("command", [("attack", "typographic"), ("evaluate", "--model")])
def test_pydantic_in_the_process_changes_no_command(run, clip_folder, image_folder, tmp_path, monkeypatch, command):
    """cyclopts checks defaults too by pydantic where somebody imported it, as a plugin may."""
    monkeypatch.setitem(sys.modules, "pydantic", None)  # what comes now is gone again after this test
    del sys.modules["pydantic"]
    import pydantic

    model = [clip_folder] if command[-1] == "--model" else []
    code, _, errors = run(*command, *model, "--data", image_folder, "--output", tmp_path / "written")
    assert code == 0, errors
    assert sys.modules["pydantic"] is pydantic
