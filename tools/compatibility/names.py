"""Which architectures are tried.

timm's are one or more of every family, mostly the smallest; `NAME@224` is loaded at another image size than its own.
"""

import json
from pathlib import Path
from typing import Any

from tools.compatibility.stand_ins import standing_in

LIMIT = 450e6  # parameters
FAMILIES = """
vit_tiny_patch16_224 vit_small_patch14_dinov2@224 vit_small_patch14_reg4_dinov2@224 vit_small_patch16_dinov3.lvd1689m
convnext_tiny.dinov3_lvd1689m eva02_tiny_patch14_224 vit_base_patch32_siglip_256 beit_base_patch16_224
deit_tiny_distilled_patch16_224 deit3_small_patch16_224 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256
maxvit_rmlp_pico_rw_256 coatnet_nano_rw_224 convnext_atto convnextv2_atto resnet18 resnet50 resnetv2_18
resnetv2_50x1_bit regnetx_002 regnety_002 efficientnet_b0 tf_efficientnet_lite0 mobilenetv3_small_050
mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0 repvgg_a0 fastvit_t8 edgenext_xx_small
efficientformer_l1 efficientformerv2_s0 levit_128s tiny_vit_5m_224 pvt_v2_b0 mvitv2_tiny xcit_nano_12_p16_224
cait_xxs24_224 volo_d1_224 naflexvit_base_patch16_gap@224 hiera_tiny_224 hgnetv2_b0 densenet121 inception_v3
dm_nfnet_f0 eca_nfnet_l0 ghostnetv2_100 crossvit_tiny_240 vit_pe_core_tiny_patch16_384 qwen3_vit_88m
gemma4_vit_167m_enc
""".split()  # noqa: SIM905
OTHERS = """
test_efficientnet test_vit test_resnet mobilenetv2_035 lcnet_050 mnasnet_small mobilevit_xxs repghostnet_050
mobilevitv2_050 ghostnet_050 semnasnet_075 convnext_zepto_rms efficientvit_b0 efficientvit_m0 mixnet_s fasternet_t0
starnet_s1 cs3darknet_s swiftformer_xs mobilenet_edgetpu_v2_xs inception_next_atto rexnet_100 mobileone_s1 fbnetc_100
mobilenetv3_large_100 pit_ti_224 pit_ti_distilled_224 repvit_m0_9 resnet10t edgenext_small coat_tiny convit_tiny
eva02_tiny_patch14_336 efficientvim_m1 gmlp_ti16_224 tf_efficientnetv2_b0 shvit_s1 vit_tiny_r_s16_p8_224
mambaout_femto gernet_s xcit_tiny_12_p8_224 ghostnetv3_100 vit_xsmall_patch16_clip_224 regnetz_b16 dpn48b
eca_botnext26ts_256 resnest14d bat_resnext26ts lambda_resnet26t visformer_tiny halonet26t botnet26t_256 fastvit_sa12
csatv2 fastvit_mci0 hrnet_w18_small poolformerv2_s12 poolformer_s12 skresnet18 gcvit_xxtiny gmixer_12_224
sebotnet33ts_256 hgnet_tiny ecaresnet26t maxvit_nano_rw_256 resmlp_12_224 dla34 nest_tiny mixer_s32_224
convmixer_768_32 cspresnet50 legacy_xception vovnet39a vit_srelpos_small_patch16_224 vit_relpos_small_patch16_rpn_224
vit_relpos_small_patch16_224 eva02_small_patch14_224 vit_small_patch16_224 vitamin_small_224 vit_small_patch14_dinov2
vit_small_patch14_reg4_dinov2 vit_little_patch16_reg1_gap_256 vit_small_patch32_224 rdnet_tiny resnext50_32x4d
caformer_s18 tnt_s_legacy_patch16_224 tnt_s_patch16_224 twins_svt_small twins_pcpvt_small res2net50_26w_4s
convformer_s18 xception41 seresnet50 cspdarknet53 coatnet_0_rw_224 sequencer2d_s swin_s3_tiny_224 swinv2_cr_tiny_224
davit_tiny focalnet_tiny_srf convnext_tiny vit_small_plus_patch16_dinov3 selecsls42 tresnet_m maxvit_tiny_tf_224
nextvit_small nfnet_l0 hieradet_small vit_small_r26_s32_224 darknet53 inception_v4 efficientvit_l1
vit_betwixt_patch16_reg1_gap_256 mobilenetv5_base samvit_base_patch16_224 beitv2_base_patch16_224
vit_base_patch16_siglip_gap_224 vit_base_patch16_clip_224 naflexvit_base_patch16_gap eva02_base_patch16_clip_224
beit3_base_patch16_224 vit_base_mci_224 vit_base_patch32_224 vit_base_patch16_siglip_224 naflexvit_base_patch16_siglip
naflexvit_base_patch16_map vit_base_r50_s16_224 vgg11_bn vit_so150m_patch16_reg4_gap_256 aimv2_large_patch14_224
iformer_t cpubone_nano lowformer_b0 legacy_seresnet18 cspnext_s lcnetv2_small inception_resnet_v2
convnext_atto@160 swinv2_tiny_window8_256@128 resnet50@160
""".split()  # noqa: SIM905
TIMM = [*FAMILIES, *OTHERS]


def open_clip_sizes(cache: Path) -> dict[str, int]:
    """Parameters of every OpenCLIP architecture, counted without contents and kept in a file."""
    if cache.is_file():
        found: dict[str, int] = json.loads(cache.read_text())
        return found
    import open_clip

    sizes = {}
    for name in open_clip.list_models():
        with standing_in(name, cache.parent):
            sizes[name] = _count(open_clip.get_model_config(name))
    cache.write_text(json.dumps(sizes, indent=1))
    return sizes


def reduced_side(name: str) -> int:
    """The image size at which an OpenCLIP architecture of over 17 G multiplications an image is tried, eight patches or
    four strides a side; 0 for its own. A timm transformer has no other size in OpenCLIP's format."""
    import open_clip

    vision = open_clip.get_model_config(name)["vision_cfg"]
    side, timm_name = vision["image_size"], vision.get("timm_model_name", "")
    if timm_name:
        return 128 if timm_name.startswith("convnext") and ("large" in timm_name or side > 256) else 0
    if isinstance(vision["layers"], list):
        return 128 if side > 256 else 0
    patches = (side // vision["patch_size"]) ** 2
    return 8 * vision["patch_size"] if patches * 12 * vision["layers"] * vision["width"] ** 2 > 17e9 else 0


def slow(name: str) -> bool:
    """Whether an OpenCLIP architecture is a timm transformer of many patches or of large width, at its own size."""
    import open_clip

    vision = open_clip.get_model_config(name)["vision_cfg"]
    timm_name = vision.get("timm_model_name", "")
    large = "large" in timm_name or (vision["image_size"] >= 384 and "base" in timm_name)
    return bool(timm_name) and reduced_side(name) == 0 and large


def _count(config: dict[str, Any]) -> int:
    import torch
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    config["text_cfg"]["hf_model_pretrained"] = config["vision_cfg"]["timm_model_pretrained"] = False
    kind = CoCa if "multimodal_cfg" in config else CustomTextCLIP if custom else CLIP
    with torch.device("meta"):
        model = kind(**config)
    return sum(parameter.numel() for parameter in model.parameters())
