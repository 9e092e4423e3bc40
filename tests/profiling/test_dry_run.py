"""The rehearsal: real numbers, and nothing written."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench import towers
from seaanchor.config.recipes import dpo, fare, lore, tecoa_kl
from seaanchor.config.schema import AdapterConfig, PerturbationConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.dry_run import dry_run, lines
from seaanchor.profiling.flops import least_operations
from seaanchor.profiling.op_counter import Stage
from seaanchor.training.setup import prepare
from seaanchor.training.summary import header
from seaanchor.types import Needs

TOWER = towers.vit(2, 5, 32, 16, image_size=32, extra=32 * 16, class_token="queries")


def test_numbers_of_a_lore_run(tiny_run, capsys):
    config = tiny_run(lore(), epochs=2, perturbation=PerturbationConfig(num_steps=10))
    seen = dry_run(config)
    assert not config.output.exists()
    assert (seen.images, seen.total_steps, seen.least_passes) == (12, 8, 50)
    assert sum(seen.stages.values()) == pytest.approx(seen.passes * seen.forward_flops)
    formula = least_operations(config, Needs(pixel_gradient=True, clean=True), True, TOWER)
    assert TOWER.forward == seen.forward_flops
    assert 0.95 <= seen.passes * seen.forward_flops / formula <= 1.1  # the multipliers are not small beside 32 channels
    width, dim = 32, 16
    block = 2 * 2 * width + 4 * width**2 + 4 * width + 8 * width**2 + 5 * width
    tower = 3 * 16 * 16 * width + width + 5 * width + 4 * width + 2 * block + width * dim
    dual = dim * 512 + 512 + 512 + 1
    assert seen.parameters == tower + dual
    assert 0 < seen.batch_seconds < 20 and seen.total_seconds >= 8 * seen.batch_seconds
    assert 50e6 < seen.peak_bytes < 20e9
    printed = capsys.readouterr().out
    for part in (
        "12 images of 3 classes",
        "8 steps of 3 x 1",
        "embedding_distance + lagrangian + pgd",
        "50 F by formula",
        "of which     attack            forward",
        "nothing was written",
    ):
        assert part in printed


def test_a_step_has_no_more_images_than_the_data(tiny_run, capsys):
    config = tiny_run(fare(), batch_size=128, max_steps=2, epochs=2, perturbation=PerturbationConfig(num_steps=1))
    dry_run(config)
    assert "2 steps of 12 x 1" in capsys.readouterr().out
    assert "2 of 12 images" in "\n".join(header(prepare(config), 1))


def test_the_header_names_settings_that_no_part_takes(tiny_run):
    plain = tiny_run(fare())
    beta = replace(plain, objective=replace(plain.objective, beta=3.0))
    assert not any("unused" in line for line in header(prepare(plain), 1))
    assert (
        header(prepare(beta), 1)[-1].startswith("unused") and "objective.beta: no part" in header(prepare(beta), 1)[-1]
    )


def test_fp32_in_place_of_bf16_is_said(tiny_run, monkeypatch, capsys):
    """As training says it, where the processor would only imitate bf16."""
    for can in (True, False):
        monkeypatch.setattr("seaanchor.training.precision.computes_in_bf16", lambda device, can=can: can)
        dry_run(tiny_run(fare(), precision="bf16", attack_precision="bf16"))
        printed = capsys.readouterr().out
        assert ("cpu has no fast arithmetic in bf16 here: updates and attacks run in fp32" in printed) is not can


def test_one_pass_over_the_data_pays_for_its_reference(tiny_run):
    """With two epochs reference embeddings are computed beforehand; in a single one each costs its forward within the
    step."""
    attack = PerturbationConfig(num_steps=10)
    once, twice = (dry_run(tiny_run(fare(), epochs=n, perturbation=attack)) for n in (1, 2))
    assert (once.least_passes, twice.least_passes) == (24, 23)
    assert once.passes - twice.passes == pytest.approx(1, abs=0.05)


def test_recipes_that_need_classes(tiny_run):
    seen = dry_run(tiny_run(tecoa_kl(), precision="bf16"))
    assert seen.least_passes == 2 * 2 + 6 * 5 + 1


def test_preferences_and_other_adapters(tiny_run):
    """Drawn words: 6 F for clean and lettered image, 1 F for the reference on the lettered one, 1 F on the clean one;
    low-rank updates leave out the weights' own gradients; a linear map never enters the tower."""
    recipe = replace(dpo(), perturbation=replace(dpo().perturbation, variants=2))
    config = tiny_run(recipe, perturbation=recipe.perturbation)
    seen = {kind: dry_run(replace(config, adapter=AdapterConfig(kind, rank=1))) for kind in ("full", "lora", "linear")}
    assert {kind: run.least_passes for kind, run in seen.items()} == {"full": 8, "lora": 6, "linear": 0}
    needs = Needs(clean=True, reference_perturbed=True)
    formula = least_operations(config, needs, False, TOWER) / TOWER.forward
    assert seen["full"].passes == pytest.approx(formula, rel=0.01)
    assert 4 < seen["lora"].passes < 6 and seen["linear"].passes < 0.2
    assert seen["linear"].parameters == 16 * 16 and seen["lora"].parameters < seen["full"].parameters / 5


def test_finds_what_training_would_stumble_over(tiny_run, tmp_path, image_folder):
    config = tiny_run(fare())
    config.output.mkdir()
    (config.output / "thesis.tex").write_text("mine")
    with pytest.raises(SeaAnchorError, match="holds no run"):
        dry_run(config)
    for image in image_folder.rglob("*.jpg"):
        image.write_bytes(b"no image")
    with pytest.raises(SeaAnchorError, match="could be read"):
        dry_run(replace(config, output=tmp_path / "other"))
    with pytest.raises(SeaAnchorError, match="epsilon"):
        dry_run(replace(config, perturbation=PerturbationConfig(epsilon="4")))


def test_a_loss_that_is_not_finite_is_reported(tiny_run, clip_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    poisoned = tmp_path / "poisoned"
    shutil.copytree(clip_folder, poisoned)
    weights = load_file(poisoned / "open_clip_model.safetensors")
    weights["visual.proj"] = weights["visual.proj"].clone().fill_(1e30)  # finite, and not when squared
    save_file(weights, poisoned / "open_clip_model.safetensors")
    with pytest.raises(SeaAnchorError, match="not finite"):
        dry_run(replace(tiny_run(fare()), model=str(poisoned)))


def test_the_printed_numbers_are_the_returned_ones():
    from seaanchor.profiling.dry_run import Rehearsal

    setup = SimpleNamespace(
        config=fare(),
        model=SimpleNamespace(name="m", encoder=SimpleNamespace(image_size=64, dim=8)),
        images=SimpleNamespace(class_names=None),
        method=SimpleNamespace(needs=SimpleNamespace(clean=False)),
    )
    stages = {Stage("attack", False): 3_700_000_000}
    seen = Rehearsal(1234, 5678, 9_000_000, 370_000_000, 23.04, stages, 23, 0.5, 7260.0, 2**31)
    text = "\n".join(lines(setup, seen, "cuda", 4))
    for part in (
        "1,234 images",
        "5,678 steps of 128 x 4",
        "9,000,000",
        "23.0 F",
        "of which     attack            forward    10.00 F  100.0 %",
        "F = 0.37 GFLOP",
        "0.5 s a step, about 2 h 01",
        "2.00 GiB",
        "4 x cuda",
    ):
        assert part in text
