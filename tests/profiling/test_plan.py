"""A run on GPUs that are elsewhere, on paper."""

from dataclasses import replace

import pytest

from seaanchor.config.recipes import dpo, dpo_linear, fare, lore
from seaanchor.config.schema import AdapterConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.hardware import find
from seaanchor.profiling.memory import CONTEXT
from seaanchor.profiling.plan import REACHED, architecture, lines, plan


@pytest.fixture
def recipe(clip_folder):
    """Two attack steps on a tower of 32 channels."""
    config = fare()
    return replace(
        config, model=str(clip_folder), perturbation=replace(config.perturbation, num_steps=2), batch_size=64, epochs=2
    )


def test_steps_and_work_of_a_run(recipe):
    found = plan(recipe, "2xH100", images=1000)
    assert (found.images, found.total_steps, found.cached, found.classes) == (
        1000,
        2 * 8,
        True,
        1000,
    )  # 1000 images in batches of 64 x 2
    assert found.work.total == 16 * found.cost.step.total + 1000 * found.cost.forward.total
    least, most = found.seconds
    assert least == found.work.seconds(find("H100"), REACHED[1]) and most / least == pytest.approx(
        REACHED[1] / REACHED[0]
    )
    once = plan(replace(recipe, epochs=1, max_steps=3), "H100", images=1000)
    assert (
        once.total_steps == 3 and not once.cached and once.cost.passes == pytest.approx(found.cost.passes + 1, abs=0.1)
    )


@pytest.mark.exhaustive
def test_slower_gpus_take_longer_and_smaller_ones_hold_less(recipe):
    fast, slow = plan(recipe, "H100", 1000), plan(recipe, "T4", 1000)
    assert slow.seconds[0] > 3 * fast.seconds[0] and slow.largest_batch < fast.largest_batch / 4
    assert fast.fits and fast.memory > CONTEXT and fast.cost.memory.of(fast.largest_batch) <= 80e9 - CONTEXT
    shown = "\n".join(lines(fast))
    for part in (
        "1 x H100-SXM",
        "H100 data sheet",
        "40 % of these rates (an assumption)",
        "yes, the whole batch at once; up to --batch-size",
        "in fp32 at 67 TFLOP/s",
    ):
        assert part in shown


def test_a_batch_that_does_not_fit_leads_to_accumulation(recipe):
    found = replace(plan(recipe, "T4", 10**7), slices=None)  # as for a linear map
    asked = 3 * found.largest_batch
    large = replace(found, config=replace(recipe, batch_size=asked))
    assert (
        not large.fits
        and f"up to --batch-size {found.largest_batch:,}; --batch-size {found.largest_batch} --grad-accumulation 3"
        in lines(large)[-1]
    )
    assert "not even one image" in lines(replace(found, largest_batch=0))[-1]


def test_real_data_is_counted_and_its_classes_too(recipe, image_folder):
    found = plan(replace(recipe, train_data=str(image_folder)), "H100")
    assert (found.images, found.classes, found.config.batch_size) == (12, 3, 12)  # no batch is larger than the data


def test_a_linear_map_embeds_the_data_once(recipe):
    linear = replace(dpo_linear(), model=recipe.model, batch_size=64, epochs=3)
    found = plan(linear, "A10G", 1000)
    assert (
        found.work.total - found.total_steps * found.cost.step.total == 1000 * 11 * found.cost.forward.total
    )  # clean and ten drawings
    assert "then embeddings" in "\n".join(lines(found))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_accumulation_counts_every_part(recipe):
    parts = replace(recipe, batch_size=32, grad_accumulation=2)
    assert plan(parts, "H100", 1000).total_steps == plan(recipe, "H100", 1000).total_steps
    assert plan(parts, "H100", 1000).work.total == pytest.approx(plan(recipe, "H100", 1000).work.total, rel=0.01)


def test_a_model_of_random_weights_stands_for_one_that_is_not_here():
    config = replace(lore(), model="timm:vit_tiny_patch16_224", image_size=32)
    assert architecture(config).encoder.image_size == 32
    with pytest.raises(SeaAnchorError, match="no-such-tag"):
        architecture(replace(config, model="ViT-B-32", pretrained="no-such-tag"))
    with pytest.raises(SeaAnchorError, match="ViT-B-3"):
        architecture(replace(config, model="ViT-B-3", pretrained=None))


def test_weights_from_files_are_not_read_for_a_plan(architectures, clip_folder, tmp_path):
    """Files of any content: only that they are there counts."""
    for name in ("base.pt", "fare.pt"):
        (tmp_path / name).write_text("no weights")
    base, tower = tmp_path / "base.pt", tmp_path / "fare.pt"
    for asked in (f"{base}", f"{base}+{tower}", f"{base}#model+{tower}#model", f"none+{tower}"):
        assert architecture(replace(lore(), model="tiny-vit", pretrained=asked)).encoder.image_size == 32
    for model, asked in (("tiny-vit", f"{base}+missing.pt"), (str(clip_folder), str(base)), ("tiny-vit", "missing.pt")):
        with pytest.raises(SeaAnchorError):
            architecture(replace(lore(), model=model, pretrained=asked))


@pytest.mark.parametrize(
    ("on", "images", "message"),
    [
        ("8xH10", 1000, "no GPU is called 'H10'"),
        ("0xH100", 1000, "0 GPUs"),
        ("H100", 0, "--dry-run-images 0"),
        ("8xH100", 5, "5 images for 8 GPUs"),
    ],
)
def test_impossible_plans(recipe, on, images, message):
    with pytest.raises(SeaAnchorError, match=message):
        plan(recipe, on, images)
    with pytest.raises(SeaAnchorError, match="adapter linear"):
        plan(replace(recipe, adapter=AdapterConfig("linear")), "H100", 1000)


@pytest.mark.exhaustive
def test_a_table_of_multipliers_has_as_many_as_the_images_that_are_told(recipe):
    """No data is opened for it, and its ascent costs next to nothing."""
    plain = replace(lore(), model=recipe.model, perturbation=recipe.perturbation, batch_size=8)
    table = replace(plain, anchor=replace(plain.anchor, dual="table"))
    wanted, found = (plan(config, "H100", 1000).cost.step.total for config in (plain, table))
    assert 0.9 * wanted < found <= wanted


def test_half_of_the_words_are_enough_to_draw(recipe):
    """As recipes that draw words of even number and are tested with those of odd number."""
    drawn = replace(dpo(), model=recipe.model, batch_size=8)
    found = plan(replace(drawn, perturbation=replace(drawn.perturbation, words="odd")), "H100", images=16)
    assert found.total_steps == 2 * drawn.epochs and found.cost.passes > 5
