"""Texts of transformers' models: pooled where the library pools them, and read by a tokenizer of the model's own."""

import shutil
from pathlib import Path

import pytest
import torch

from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model
from tests.encoders.huggingface.models import CLIP_TEXT, CLIP_TOKENS, edit, library_model, write_model

TEXTS = ["a cat.", "two long dogs", "a very long sentence that is cut somewhere in the middle"]
END = len(CLIP_TOKENS) - 1


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_model("CLIPModel", tmp_path_factory.mktemp("clip"))


def library_texts(folder: Path, texts: list[str]) -> torch.Tensor:
    from transformers import AutoTokenizer

    model, tokenizer = library_model(folder), AutoTokenizer.from_pretrained(folder)
    longest = model.config.text_config.max_position_embeddings
    padding = True if "CLIP" in type(model).__name__ else "max_length"
    tokens = tokenizer(texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
    with torch.no_grad():
        found = model.get_text_features(**tokens)
    return getattr(found, "pooler_output", found)


@pytest.mark.parametrize("end", [2, END])
def test_clip_pools_at_the_end_token_of_old_and_new_configurations(tmp_path, end):
    """2 in the configuration stands for the largest number in the text."""
    folder = write_model("CLIPModel", tmp_path, text_config=CLIP_TEXT | {"eos_token_id": end})
    model = load_model(f"hf:{folder}")
    torch.testing.assert_close(model.encode_texts(TEXTS), library_texts(folder, TEXTS), rtol=1e-5, atol=1e-6)
    ids = model.text_limit.read(TEXTS)
    assert [read[-1] for read in ids] == [END] * 3 and len(ids[2]) == 24  # also where a text is cut
    hidden = library_model(folder).text_model(torch.tensor(ids[2:])).last_hidden_state[:, -1]
    with torch.no_grad():
        expected = library_model(folder).text_projection(hidden)
    torch.testing.assert_close(model.encode_texts(TEXTS[2:]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("end", [3, END - 1])
def test_an_end_token_that_does_not_end_the_texts_is_refused(tmp_path, end):
    """3 is the letter d, which most texts lack; END - 1 begins every text, so that all would be one."""
    folder = write_model("CLIPModel", tmp_path, text_config=CLIP_TEXT | {"eos_token_id": end})
    assert library_texts(folder, ["a cat", "a bat"]).diff(dim=0).abs().max() < 1e-6  # what would come of it
    with pytest.raises(SeaAnchorError, match=f"pooled at token {end}, which the tokenizer does not put at their ends"):
        load_model(f"hf:{folder}")


@pytest.mark.parametrize("architecture", ["CLIPModel", "SiglipModel", "Siglip2Model"])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path, architecture):
    folder = write_model(architecture, tmp_path)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SeaAnchorError, match="has no tokenizer"):
        load_model(f"hf:{folder}")
    (folder / "tokenizer_config.json").write_text("{}")  # settings are no vocabulary
    with pytest.raises(SeaAnchorError, match="has no tokenizer"):
        load_model(f"hf:{folder}")


def test_a_tokenizer_that_reads_all_texts_alike_is_refused(tmp_path):
    """Every word is unknown to it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = write_model("SiglipModel", tmp_path)
    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>").save_pretrained(folder)
    with pytest.raises(SeaAnchorError, match=r"makes the same tokens of 'a photo of a cat\.'"):
        load_model(f"hf:{folder}")


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(clip, tmp_path):
    from transformers import CLIPTokenizer

    folder = Path(shutil.copytree(clip, tmp_path / "larger"))
    tokens = [*CLIP_TOKENS[:-2], "é</w>", "ü</w>", *CLIP_TOKENS[-2:]]
    CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    with pytest.raises(SeaAnchorError, match=r"has 57 tokens\n.*at most the model's 55"):
        load_model(f"hf:{folder}")


def test_padding_on_the_left_is_refused(clip, tmp_path):
    folder = Path(shutil.copytree(clip, tmp_path / "left"))
    edit(folder / "tokenizer_config.json", padding_side="left")
    with pytest.raises(SeaAnchorError, match="pads on the left"):
        load_model(f"hf:{folder}")


@pytest.mark.parametrize("architecture", ["SiglipModel", "Siglip2Model"])
def test_siglips_answers_are_the_librarys(tmp_path, architecture):
    """Its bias is one number for all classes: probabilities over the classes are those of the cosines alone."""
    folder = write_model(architecture, tmp_path / "model")
    model, theirs = load_model(f"hf:{folder}"), library_model(folder)
    head = build_head(model, ["cat", "dog", "red fox"], ["a {}."])
    pixels = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        ours = head(model.encoder(pixels))
        image = torch.nn.functional.normalize(model.encoder(pixels), dim=-1)
        text = torch.nn.functional.normalize(library_texts(folder, ["a cat.", "a dog.", "a red fox."]), dim=-1)
        logits = image @ text.T * theirs.logit_scale.exp() + theirs.logit_bias
    assert theirs.logit_bias.abs() > 1e-3
    torch.testing.assert_close(ours.softmax(-1), logits.softmax(-1), rtol=1e-5, atol=1e-6)
    export_model(model, tmp_path / "export")
    assert torch.equal(library_model(tmp_path / "export").logit_bias, theirs.logit_bias)


def test_many_texts_are_those_of_a_few(tmp_path):
    """Lots by length leave SigLIP's padding in."""
    model = load_model(f"hf:{write_model('SiglipModel', tmp_path)}")
    texts = ["a" * (1 + i % 17) for i in range(300)]
    found = model.encode_texts(texts)
    torch.testing.assert_close(found[40:44], model.encode_texts(texts[40:44]), rtol=1e-5, atol=1e-6)
