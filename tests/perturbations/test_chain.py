"""A word and then noise: each link works on what the one before it made, and the attack knows the drawn word."""

from dataclasses import replace

import torch

from seaanchor.api import train_from_config as train
from seaanchor.config.assemble import assemble, perturbation_of
from seaanchor.config.recipes import dpo_tiny
from seaanchor.config.schema import PerturbationConfig
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.sources import open_images
from seaanchor.encoders.encoder import Reference
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.types import Targets


def test_noise_stays_in_the_ball_around_the_lettered_image_and_makes_the_word_win():
    model, images = load_model("seaanchor-tiny"), open_images("photos-mini/test")
    names = images.class_names or ()
    batch = next(batches(ImageDataset(images, 64), 16, workers=0, order=range(0, 800, 50), skip_log=SkipLog(images)))
    settings = PerturbationConfig("typographic+pgd", epsilon="2/255", num_steps=5, sizes=(0.14, 0.25), variants=1)
    word, both = (perturbation_of(replace(settings, kind=kind), names) for kind in ("typographic", "typographic+pgd"))
    method = assemble(replace(dpo_tiny(), perturbation=settings), model.encoder.dim, names)
    reference, head = Reference(model.encoder), build_head(model, names)
    assert both.links[0] == word
    rng = torch.Generator()
    lettered = word(batch, lambda _: None, rng.manual_seed(3))  # type: ignore[arg-type] # a word looks at no loss
    attacked = method.perturb(
        model.encoder, batch, Targets(reference(batch.pixels_BCHW), batch.label_B, head), rng.manual_seed(3)
    )
    assert torch.equal(attacked.preference.rejected_B, lettered.preference.rejected_B), (
        "the drawn word is the rejected text"
    )
    noise_BCHW = attacked.pixels_BCHW - lettered.pixels_BCHW
    assert 1.9 / 255 < noise_BCHW.abs().max() <= 2 / 255 + 1e-6

    def margin(pixels_BCHW):
        logits_BC = head(reference(pixels_BCHW))
        return (
            logits_BC.gather(1, batch.label_B[:, None]) - logits_BC.gather(1, lettered.preference.rejected_B[:, None])
        ).squeeze(1)

    assert (margin(attacked.pixels_BCHW) < margin(lettered.pixels_BCHW) - 1).all(), (
        "the attack raises the loss of the pair with the drawn word"
    )


def test_a_run_with_both_trains_and_counts_its_attack(tiny_run):
    from seaanchor.config.recipes import dpo
    from seaanchor.profiling.flops import least_passes

    config = tiny_run(dpo())
    both = replace(
        config, perturbation=replace(config.perturbation, kind="typographic+pgd", num_steps=2), average="none"
    )
    assert (train(both) / "export").is_dir()
    plain = replace(both, perturbation=replace(both.perturbation, kind="typographic"))
    passes = [least_passes(c, assemble(c, 4, ("a", "b", "c")).needs, cached=True) for c in (both, plain)]
    assert passes[0] == passes[1] + 4
