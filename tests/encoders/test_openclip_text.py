"""OpenCLIP's towers with texts of Hugging Face or of CoCa encode like the library; what a tokenizer cannot distinguish
is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from seaanchor.encoders.load import load_model
from seaanchor.encoders.openclip_hf_text import CONFIGURATIONS
from seaanchor.encoders.openclip_text import bpe_file
from seaanchor.errors import SeaAnchorError, note

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
POOLED = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
OWN_TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
TEXTS = ["a cat", "two dogs on a long, long road", "zebra"]
PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def _fresh_notes():
    note.cache_clear()


def write_tokenizer(folder: Path) -> int:
    """A tokenizer of letters, as transformers saves one; returns the size of its vocabulary."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *map(chr, range(97, 123)), " ", ","]
    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    ends = [("<s>", 0), ("</s>", 2)]
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special, cls_token="<s>", sep_token="</s>").save_pretrained(
        folder
    )
    return len(tokens)


TEXT_TOWERS = {
    "roberta": SMALL | {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 40},
    "xlm-roberta": SMALL | {"model_type": "xlm-roberta", "pad_token_id": 1, "max_position_embeddings": 40},
    "bert": SMALL | {"model_type": "bert", "pad_token_id": 1},
    "mt5": {
        "model_type": "mt5",
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 2,
        "pad_token_id": 1,
    },
    "m2m_100": {
        "model_type": "m2m_100",
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_ffn_dim": 48,
        "encoder_attention_heads": 2,
        "decoder_ffn_dim": 48,
        "decoder_attention_heads": 2,
        "pad_token_id": 1,
    },
}


def architecture(folder: Path, name: str, **config) -> str:
    import open_clip

    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": VISION, **config}))
    open_clip.add_model_config(folder)
    return name


@pytest.fixture
def hugging_face_text(tmp_path):
    """Makes an architecture whose text tower and tokenizer are a folder of transformers."""

    def make(kind: str, tokenizer: bool = True, **settings) -> str:
        folder = tmp_path / kind
        folder.mkdir()
        size = write_tokenizer(folder) if tokenizer else 30
        (folder / "config.json").write_text(json.dumps(TEXT_TOWERS[kind] | {"vocab_size": size}))
        places = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "context_length": 24}
        text = places | {"hf_pooler_type": "mean_pooler"} | settings.pop("text", {})
        return architecture(tmp_path / "configs", f"tiny-{kind}", text_cfg=text, **settings)

    return make


def check_encodes_like_the_library(model) -> None:
    import open_clip

    whole, tokenizer = model.module, model.export_config["tokenizer"]
    with torch.no_grad():
        texts = whole.encode_text(tokenizer(TEXTS), normalize=False)
        images = whole.encode_image((PIXELS - model.encoder.mean) / model.encoder.std, normalize=False)
    assert isinstance(whole, open_clip.CoCa | open_clip.CustomTextCLIP)
    torch.testing.assert_close(model.encode_texts(TEXTS), texts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.encoder(PIXELS), images, rtol=1e-5, atol=1e-6)
    alone = torch.cat([model.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(alone, texts, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(texts[0], texts[1])


@pytest.mark.parametrize("kind", TEXT_TOWERS)
@pytest.mark.parametrize("pooler", ["mean_pooler", "cls_last_hidden_state_pooler"])
def test_hugging_face_text_towers(hugging_face_text, tmp_path, kind, pooler):
    name = hugging_face_text(kind, text={"hf_pooler_type": pooler})
    model = load_model(name, "none")
    check_encodes_like_the_library(model)
    torch.save({f"module.{key}": value for key, value in model.module.state_dict().items()}, tmp_path / "w.pt")
    again = load_model(name, str(tmp_path / "w.pt"))
    assert torch.equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))
    assert torch.equal(again.encoder(PIXELS), model.encoder(PIXELS))


def test_coca_with_either_text_tower(hugging_face_text, tmp_path):
    text = {"embed_cls": True, "output_tokens": True}
    multimodal = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    own = {"custom_text": True, "text_cfg": OWN_TEXT | text, "multimodal_cfg": multimodal}
    check_encodes_like_the_library(
        load_model(architecture(tmp_path / "own", "tiny-coca-own", **own, vision_cfg=VISION | POOLED), "none")
    )
    theirs = {"text": {"hf_proj_type": "linear", "output_tokens": True, "width": 32}, "vision_cfg": VISION | POOLED}
    name = hugging_face_text("roberta", custom_text=True, multimodal_cfg=multimodal, **theirs)
    check_encodes_like_the_library(load_model(name, "none"))


def test_random_weights_ask_nothing_of_the_hub(monkeypatch):
    """As asked: the architecture alone, its text tower from the settings that are known here, and no texts where there
    is no tokenizer. No test reaches the Hub."""
    small = SMALL | {"max_position_embeddings": 40, "vocab_size": 30}
    monkeypatch.setitem(CONFIGURATIONS, "roberta-base", CONFIGURATIONS["roberta-base"] | small)
    model = load_model("roberta-ViT-B-32", "none", image_size=32)
    assert model.module.text.transformer.config.model_type == "roberta"
    assert model.encoder(PIXELS).shape == (2, 512)
    assert model.encode_texts is None
    monkeypatch.delitem(CONFIGURATIONS, "roberta-base")
    with pytest.raises(SeaAnchorError, match=r"the text tower of roberta-ViT-B-32 is roberta-base, whose config"):
        load_model("roberta-ViT-B-32", "none")


def test_without_a_tokenizer_random_weights_have_no_texts_and_real_ones_are_refused(
    hugging_face_text, tmp_path, caplog
):
    from seaanchor.encoders.heads import build_head
    from seaanchor.export.folder import export_model

    name = hugging_face_text("roberta", tokenizer=False)
    model = load_model(name, "none")
    assert model.encode_texts is None
    assert "is not on this disk and could not be fetched: it is loaded without texts" in caplog.text
    assert model.encoder(PIXELS).shape == (2, 16)
    with pytest.raises(SeaAnchorError, match="no text tower"):
        build_head(model, ["cat", "dog"])
    with pytest.raises(SeaAnchorError, match="without its tokenizer"):
        export_model(model, tmp_path / "export")
    torch.save(model.module.state_dict(), tmp_path / "w.pt")
    with pytest.raises(SeaAnchorError, match="tokenizer of tiny-roberta"):
        load_model(name, str(tmp_path / "w.pt"))


@pytest.mark.parametrize(
    ("name", "millions"), [("roberta-base", 124), ("xlm-roberta-base", 278), ("google/mt5-base", 277)]
)
def test_known_text_towers_have_the_published_sizes(name, millions):
    """Millions of parameters as the models' cards count them; of mT5 the encoder's."""
    from transformers import AutoConfig, AutoModel

    given = dict(CONFIGURATIONS[name])
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(given.pop("model_type"), **given))
    model = model.encoder if name.startswith("google") else model
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1)


def test_a_blank_tokenizer_is_refused(clip_folder, tmp_path):
    """transformers gives a tokenizer of a few special tokens for a folder that has the settings of one and no words."""
    folder = tmp_path / "model"
    shutil.copytree(clip_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "."
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    with pytest.raises(SeaAnchorError, match="gives 'cat' and 'dog' the same tokens"):
        load_model(str(folder))


def test_classes_that_the_vocabulary_does_not_distinguish(hugging_face_text):
    from seaanchor.encoders.heads import build_head

    model = load_model(hugging_face_text("bert"), "none")
    assert torch.equal(*model.encode_texts(["猫", "狗"]))
    with pytest.raises(SeaAnchorError, match=r"2 classes have the same tokens, .*: '猫' = '狗'"):
        build_head(model, ["cat", "猫", "狗"])
    assert build_head(model, ["cat", "猫"]).weight_CD.shape == (2, 16)


def test_a_configuration_may_leave_our_part_null(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "null")
    file = folder / "open_clip_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seaanchor": None}))
    assert load_model(str(folder)).encode_texts is not None


def test_the_name_of_the_merges_is_a_text():
    with pytest.raises(SeaAnchorError, match=r"the merges are 2\.5"):
        bpe_file(None, {"tokenizer_kwargs": {"bpe_path": 2.5}})
