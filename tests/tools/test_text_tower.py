"""The text tower of `seaanchor-lite`: it learns a table, goes on after a kill, and needs no image."""

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from tools.pretraining import text_tower
from tools.pretraining.__main__ import app
from tools.pretraining.distillation import Student
from tools.pretraining.lite import new_lite, write_tower
from tools.pretraining.text_tower import learn_texts, num_class_names, teach_text_tower
from tools.pretraining.tiny import tokenizer_file
from tools.pretraining.words import common_words


@pytest.fixture(scope="module")
def tower():
    import timm

    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()


@pytest.mark.exhaustive
def test_the_text_tower_learns_a_table(tower, tmp_path):
    model, goal = new_lite(tower, 0), torch.nn.functional.normalize(torch.randn(6, 512), dim=1)
    texts = ("boat", "bolt", "tea pot", "tee", "anchor", "anchors")
    tokens = SimpleTokenizer(bpe_path=str(tokenizer_file(tmp_path)), context_length=32)
    before = {name: p.clone() for name, p in model.visual.named_parameters()}
    learn_texts(model, goal, texts, ("{}", "a {}."), tokens, tmp_path, num_steps=120)
    with torch.no_grad():
        said = model.encode_text(tokens(["a boat.", "a bolt.", "a tea pot.", "a tee.", "a anchor.", "a anchors."]))
    assert (torch.nn.functional.normalize(said, dim=1) @ goal.T).argmax(1).tolist() == [0, 1, 2, 3, 4, 5]
    assert all(torch.equal(before[name], p) for name, p in model.visual.named_parameters())


def test_class_names_come_before_the_common_words():
    some = common_words()[:3]
    assert num_class_names(["tench", some[0], "great white shark", *some[1:]]) == 3
    assert num_class_names(some) == 3  # without class names all texts are alike


def test_half_of_a_batch_are_class_names(tower, tmp_path, monkeypatch):
    names = [f"kind {number}" for number in range(40)]
    texts, asked = [*names, *common_words()[:360]], []

    def tokens(captions):
        asked.append(sum("kind" in caption for caption in captions))
        return torch.tensor([[2512, 5, 2513]] * len(captions))

    monkeypatch.setattr(text_tower, "BATCH_SIZE", 80)
    goal = torch.nn.functional.normalize(torch.randn(400, 512), dim=1)
    learn_texts(new_lite(tower, 0), goal, texts, ("{}",), tokens, tmp_path, num_steps=4)
    assert len(asked) == 4 and all(40 <= count <= 50 for count in asked)  # 40, and a tenth of the other 40


def test_a_run_that_was_killed_ends_as_one_that_was_not(tower, tmp_path, monkeypatch):
    monkeypatch.setattr(text_tower, "SAVE_EVERY", 2)
    goal = torch.nn.functional.normalize(torch.randn(3, 512), dim=1)
    tokenizer = SimpleTokenizer(bpe_path=str(tokenizer_file(tmp_path)), context_length=32)

    def trained(folder, dies_at=None):
        left = [dies_at]

        def tokens(captions):
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            return tokenizer(captions)

        torch.manual_seed(0)
        model = new_lite(tower, 0)
        learn_texts(model, goal, ("boat", "sea", "tea pot"), ("{}", "a {}."), tokens, folder, num_steps=6)
        return {name: value for name, value in model.state_dict().items() if not name.startswith("visual.")}

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", dies_at=5)
    again = trained(tmp_path / "killed")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_tower_and_its_texts_are_all_that_a_text_tower_needs(tower, tmp_path, monkeypatch):
    taught = []
    monkeypatch.setattr("tools.pretraining.text_tower.learn_texts", lambda *args: taught.append(args))
    table = torch.randn(3, 512, generator=torch.Generator().manual_seed(1))
    student = Student(new_lite(tower, 0).visual, table, 20.0)
    write_tower(student, ("anchor", "café", "boat"), tmp_path / "tower")
    app(["text-tower", str(tmp_path / "tower"), str(tmp_path / "run")], result_action="return_value")
    ((_, goal, texts, *_),) = taught
    assert texts == ["anchor", "café", "boat"]
    torch.testing.assert_close(goal, torch.nn.functional.normalize(table, dim=-1), rtol=2e-3, atol=2e-4)
    model = load_model(str(tmp_path / "run" / "export"))
    assert model.module.logit_scale.exp().item() == pytest.approx(20, rel=1e-3)
    weight = model.module.visual.trunk.conv_stem.weight
    torch.testing.assert_close(weight, tower.conv_stem.weight, rtol=1e-3, atol=1e-4)
    (tmp_path / "tower" / "texts.json").unlink()
    with pytest.raises(SeaAnchorError, match=r"lacks texts\.json"):
        teach_text_tower(tmp_path / "tower", tmp_path / "again")
