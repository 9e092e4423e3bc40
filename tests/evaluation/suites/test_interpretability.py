"""Mean cosines with prompts against every cosine computed one by one."""

import pytest
import torch
import torch.nn.functional as F

from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.suites.interpretability import evaluate_interpretability, mean_prompts, openai_templates


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_against_every_cosine(chunk):
    rng = torch.Generator().manual_seed(0)
    images, prompts = torch.randn(10, 6, generator=rng), F.normalize(torch.randn(5, 7, 6, generator=rng), dim=-1)
    labels = torch.randint(5, (10,), generator=rng)
    own = [
        F.cosine_similarity(image, prompt, dim=0)
        for image, y in zip(images, labels, strict=True)
        for prompt in prompts[y]
    ]
    other = [
        F.cosine_similarity(i, p, dim=0)
        for i, y in zip(images, labels, strict=True)
        for c in range(5)
        if c != y
        for p in prompts[c]
    ]
    result = evaluate_interpretability(images, labels, prompts.mean(1), chunk)
    assert result.own == pytest.approx(torch.stack(own).mean().item(), abs=1e-6)
    assert result.other == pytest.approx(torch.stack(other).mean().item(), abs=1e-6)
    assert result.margin == pytest.approx(result.own - result.other)
    assert result.n == 10


@pytest.mark.parametrize("shape", [(0, 3), (2, 1)])
def test_nothing_to_compare(shape):
    images, classes = shape
    with pytest.raises(ValueError, match="at least one image and two classes"):
        evaluate_interpretability(torch.ones(images, 4), torch.zeros(images, dtype=torch.long), torch.ones(classes, 4))


def test_openai_templates():
    templates = openai_templates()
    assert len(templates) == 80 == len(set(templates))
    assert all(template.count("{}") == 1 for template in templates)


def test_the_embedded_model():
    model, images = load_model("seaanchor-tiny"), subset(open_images("photos-mini/test"), 100, 0)
    batch = next(batches(ImageDataset(images, 64), 100, workers=0, order=None, skip_log=SkipLog(images)))
    templates = ("a photo of a {}.", "a drawing of a {}.", "the {}.")
    names = images.class_names
    mean_CD = mean_prompts(model, names, templates, batch_size=20)
    texts = F.normalize(model.encode_texts([template.replace("{}", names[7]) for template in templates]), dim=-1)
    assert torch.allclose(mean_CD[7], texts.mean(0), atol=1e-5)
    with torch.no_grad():
        image_ND = model.encoder(batch.pixels_BCHW)
    result = evaluate_interpretability(image_ND, batch.label_B, mean_CD)
    assert result.margin > 0.1
    shuffled = evaluate_interpretability(image_ND, batch.label_B.roll(37), mean_CD)
    assert shuffled.margin < result.margin / 2
    assert mean_prompts(model, names[:3]).shape == mean_CD[:3].shape  # the 80 of OpenAI
