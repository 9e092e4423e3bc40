"""Modules of the user's own: what works as an encoder, each thing that does not, and exports that are read again."""

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.encoders.fingerprint import fingerprint, image_side
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.encoders.own_module import from_encoder, load_encoder
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model


class Tower(nn.Module):
    """A small tower; `change` is what its embeddings (B, 6) pass on the way out."""

    def __init__(self, change=lambda embedding: embedding) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.drop = nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.change = change

    def forward(self, pixels: Tensor):
        return self.change(self.drop(self.norm(self.conv(pixels)).relu().mean((2, 3))))


class NoParameters(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))


def of_numbers(texts) -> Tensor:
    """Texts → vectors of six numbers."""
    return torch.tensor([[float(ord(letter)) for letter in (text * 6)[:6]] for text in texts])


def test_a_forward_finds_the_dimension_and_leaves_the_module_as_it_was():
    tower = Tower()
    tower.norm.eval()
    before = [module.training for module in tower.modules()], fingerprint(tower), torch.get_rng_state()
    encoder = Encoder(tower, image_size=8)
    assert encoder.dim == 6
    assert [module.training for module in tower.modules()] == before[0]
    assert fingerprint(tower) == before[1] and torch.equal(torch.get_rng_state(), before[2])
    pixels = torch.rand(2, 3, 8, 8)
    assert torch.equal(encoder.eval()(pixels), tower.eval()(pixels))  # mean 0 and std 1 by default
    encoder = Encoder(tower, 8, mean=0.5, std=(0.25, 0.5, 1.0)).eval()
    assert torch.equal(encoder(pixels), tower((pixels - 0.5) / torch.tensor([0.25, 0.5, 1.0]).view(3, 1, 1)))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda e: (e, e), "returns a tuple of 2 parts"),
        (lambda e: {"embedding": e, "logits": e}, "returns a dict of embedding, logits"),
        (lambda e: None, "returns NoneType"),
        (lambda e: e[:1], "returns 1 embeddings for 2 images"),
        (lambda e: (e * 10).long(), "returns values of torch.int64"),
        (lambda e: e.argmax(-1), r"returns a tensor of shape \(2,\)"),
        (lambda e: e[:, :, None, None], r"returns a tensor of shape \(2, 6, 1, 1\)"),
        (lambda e: e / 0, "not finite"),
        (lambda e: e * torch.nan, "not finite"),
        (lambda e: e + torch.rand_like(e), "other embeddings when the same images are embedded again"),
        (lambda e: e.detach(), "no gradient reaches the pixels"),
        (lambda e: e @ torch.rand(7, 6), "fails on pixels of shape"),
    ],
)
def test_what_is_no_embedding_is_refused(change, found):
    with pytest.raises(SeaAnchorError, match=found) as caught:
        Encoder(Tower(change), image_size=8)
    assert str(caught.value).startswith("Tower ") or "through Tower" in str(caught.value)
    with pytest.raises(SeaAnchorError, match=found):  # also where dim was given
        from_encoder(Encoder(Tower(change), image_size=8, dim=6))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 8, "std": 0.0}, "std is 0.0"),
        ({"image_size": 8, "mean": (0.5, 0.5)}, r"mean is \(0.5, 0.5\)"),
        ({"image_size": 3}, "fails on pixels of shape"),
        ({"image_size": 8, "preprocessing": Preprocessing(16)}, "preprocessing gives 16 pixels and image_size is 8"),
    ],
)
def test_settings_that_are_wrong(settings, found):
    with pytest.raises(SeaAnchorError, match=found):
        Encoder(Tower(), **settings)


def test_modules_that_make_no_model():
    with pytest.raises(SeaAnchorError, match="NoParameters has no parameters"):
        Encoder(NoParameters(), image_size=8)
    with pytest.raises(SeaAnchorError, match="embeddings of 6 dimensions and dim is 7"):
        from_encoder(Encoder(Tower(), image_size=8, dim=7))
    with pytest.raises(SeaAnchorError, match="logit_scale is 0"):
        from_encoder(Encoder(Tower(), image_size=8), logit_scale=0.0)
    for wrong in (
        lambda texts: of_numbers(texts)[:, :5],
        lambda texts: list(texts),
        lambda texts: of_numbers(texts).int(),
    ):
        with pytest.raises(SeaAnchorError, match="encode_texts gives"):
            from_encoder(Encoder(Tower(), image_size=8), encode_texts=wrong)
    tower = Tower()
    tower.lock = (line for line in "")
    with pytest.raises(SeaAnchorError, match="Tower cannot be copied"):
        from_encoder(Encoder(tower, image_size=8))


def test_a_model_of_ones_own_is_a_copy_with_a_text_side():
    encoder = Encoder(Tower(), image_size=8)
    model = from_encoder(encoder, "mine", encode_texts=of_numbers, logit_scale=10.0)
    assert (model.name, model.family, model.encoder.dim) == ("mine", "module", 6)
    assert model.module is model.encoder.tower and model.module is not encoder.tower
    assert not model.encoder.training and not any(p.requires_grad for p in model.encoder.parameters())
    assert all(p.requires_grad for p in encoder.tower.parameters())
    head = build_head(model, ("cat", "dog"))
    assert head.weight_CD.shape == (2, 6) and head.logit_scale == 10.0
    with pytest.raises(SeaAnchorError, match="Tower has no text tower"):
        build_head(from_encoder(encoder), ("cat", "dog"))


def test_the_identity_sees_weights_and_code():
    """Two towers of the same weights and layers, of which one does something else."""
    same, other = (from_encoder(Encoder(Tower(change), image_size=8)) for change in (lambda e: e, lambda e: 2 * e))
    assert fingerprint(same.encoder) == fingerprint(other.encoder)
    sides = [image_side(model.encoder, model.family) for model in (same, same, other)]
    assert sides[0] == sides[1] != sides[2]
    assert sides[0] == image_side(Reference(same.encoder).encoder, "module")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("factory", [None, Tower])
def test_an_export_is_verified_and_read_again(tmp_path, half, factory):
    model = from_encoder(Encoder(Tower(), 8, mean=0.4, std=(0.2, 0.3, 0.4)), factory=factory)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(1.5)
        model.module.norm.running_mean.normal_()
    export_model(model, tmp_path / "out", half=half)
    settings = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert settings["class"].endswith(":Tower") and settings["image_size"] == 8 and settings["dim"] == 6
    again, pixels = load_encoder(tmp_path / "out", Tower()), torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(again(pixels), model.encoder(pixels), rtol=0.02 if half else 0, atol=0.02 if half else 0)
    if not half:
        assert fingerprint(again) == fingerprint(model.encoder)


def test_the_preprocessing_goes_with_an_export(tmp_path):
    how = Preprocessing(8, "longest", "bilinear", 10, (1, 2, 3), colours="rgb")
    export_model(from_encoder(Encoder(Tower(), 8, preprocessing=how)), tmp_path)
    assert load_encoder(tmp_path, Tower()).preprocessing == how
    settings = json.loads((tmp_path / "encoder.json").read_text())
    del settings["preprocessing"]  # as older versions wrote it
    (tmp_path / "encoder.json").write_text(json.dumps(settings))
    with pytest.raises(SeaAnchorError, match=r"encoder\.json .* is not what was written"):
        load_encoder(tmp_path, Tower())
    (tmp_path / "SHA256SUMS").unlink()
    assert load_encoder(tmp_path, Tower()).preprocessing == Preprocessing(8)


def test_exports_that_do_not_fit(tmp_path):
    class Wide(Tower):
        """What the factory builds has other layers."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 7, 4, 4)

    model = from_encoder(Encoder(Tower(), image_size=8), factory=Wide)
    with pytest.raises(SeaAnchorError, match="does not load again"):
        export_model(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_model(from_encoder(Encoder(Tower(), image_size=8)), tmp_path / "out")
    with pytest.raises(SeaAnchorError, match="do not fit Wide"):
        load_encoder(tmp_path / "out", Wide())
    with pytest.raises(SeaAnchorError, match="could not be read as an export"):
        load_encoder(tmp_path / "nowhere", Tower())
    with pytest.raises(SeaAnchorError, match="holds the weights of an encoder of your own"):
        load_model(str(tmp_path / "out"))


def test_a_factory_with_another_forward_fails_the_check(tmp_path):
    """The weights fit and the embeddings differ: only the reload sees that."""
    model = from_encoder(Encoder(Tower(), image_size=8), factory=lambda: Tower(lambda e: 1.01 * e))
    with pytest.raises(SeaAnchorError, match=r"gives embeddings that differ by 0\.01"):
        export_model(model, tmp_path / "out")


def test_the_reference_is_untouched_by_what_is_trained():
    encoder = Encoder(Tower(), image_size=8)
    model = from_encoder(encoder)
    before = copy.deepcopy(encoder.tower.state_dict())
    for parameter in model.encoder.parameters():
        parameter.data.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in encoder.tower.state_dict().items())
