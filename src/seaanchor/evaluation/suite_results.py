"""What each suite finds, as frozen records. A field that is None was not measured, or is not in older result files."""

from dataclasses import dataclass, field

from seaanchor.evaluation.mean_iou import SegmentationScore
from seaanchor.evaluation.statistics import Share, Spread


@dataclass(frozen=True)
class TypographicSettings:
    """How words were drawn: which class names and fonts, glyph heights as shares of the image's side, seed, and how
    many words were tried on each image where that is more than one."""

    words: str = "all"
    fonts: str = "unseen"
    sizes: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    words_tried: int | None = None


@dataclass(frozen=True)
class Retrieval:
    """Recall in both directions, by its depth (`recall@1`): queries are images, and queries are texts."""

    image_to_text: dict[str, Share]
    text_to_image: dict[str, Share]


@dataclass(frozen=True)
class EmbeddingRadius:
    """The attack on embeddings at one radius: relative squared distance moved, and mean cosine to the clean one."""

    epsilon: float
    norm: str | None
    num_steps: int
    distance: Spread
    cosine: float
    n: int | None = None


@dataclass(frozen=True)
class EmbeddingAttack:
    """The attack on embeddings, by radius from the smallest."""

    radii: tuple[EmbeddingRadius, ...]


@dataclass(frozen=True)
class Typographic:
    """Wrong class words drawn on images.

    Attributes:
        attacked: accuracy with the word on the image (T).
        attack_word: how often the word wins.
        two_way: how often the object lies above the word, whatever else wins.
        plan: how words were drawn.
        clean: accuracy without the word (O); None where images carry a word already, as are `unreadable`'s.
        unreadable: accuracy with the same box and colours, but unreadable glyphs: the ceiling of any cure.
    """

    attacked: Share
    attack_word: Share
    two_way: Share
    plan: TypographicSettings | None = None
    clean: Share | None = None
    unreadable: Share | None = None


@dataclass(frozen=True)
class WordsAndNoise:
    """The worst of several drawn words, and then each attack on that image, by `ATTACK RADIUS`."""

    word: Share
    attacked: dict[str, Share]
    plan: TypographicSettings | None = None


@dataclass(frozen=True)
class Reading:
    """Accuracy of naming a class word on a plain ground."""

    reading: Share
    plan: TypographicSettings | None = None


@dataclass(frozen=True)
class NoiseLevel:
    """Accuracy under Gaussian noise of a standard deviation in 255ths of the pixel range."""

    sigma: float
    share: Share


@dataclass(frozen=True)
class Noise:
    """Accuracy by the strength of Gaussian noise."""

    levels: tuple[NoiseLevel, ...]


@dataclass(frozen=True)
class CorruptionLevel:
    """Accuracy under one kind of corruption at a severity from 1 to 5."""

    severity: int
    share: Share


@dataclass(frozen=True)
class Corruptions:
    """Accuracy by kind and severity, the mean over all of them, and n images."""

    kinds: dict[str, tuple[CorruptionLevel, ...]]
    mean: float
    n: int | None = None


@dataclass(frozen=True)
class Bias:
    """People in roles.

    Attributes:
        gender: the caption of the right gender wins, of the two of the image's own role.
        activity: the best of all captions names the role.
        predicted_man: share of images called a man.
        retrieval: `uniform` or `dataset` (the desired shares) → `max_skew_at_K` and `ndkl`, means over roles.
        roles: how many.
        caveat: what must be said with these numbers; empty if nothing.
    """

    gender: Share
    activity: Share
    predicted_man: float
    retrieval: dict[str, dict[str, float]] = field(default_factory=dict)
    roles: int | None = None
    caveat: str = ""


@dataclass(frozen=True)
class Interpretability:
    """Mean cosine of clean images with prompts of their own class and of the others, its margin, n and templates."""

    own: float
    other: float
    margin: float | None = None
    n: int | None = None
    templates: int | None = None


@dataclass(frozen=True)
class Drift:
    """How far clean embeddings lie from the reference's.

    Attributes:
        cosine: mean over images.
        distance: relative squared distance.
        deciles: eleven quantiles of it, 0 to 100 %.
        rho: bound that the model was trained with.
        within: share of images inside that bound.
        n: images.
    """

    cosine: float
    distance: Spread
    deciles: tuple[float, ...] = ()
    rho: float | None = None
    within: Share | None = None
    n: int | None = None


@dataclass(frozen=True)
class Probe:
    """Test accuracy on frozen embeddings: a linear probe with its chosen penalty, k nearest neighbours, and how many
    training images there were."""

    linear: Share
    knn: Share
    k: int | None = None
    penalty: float | None = None
    train: int | None = None


@dataclass(frozen=True)
class SegmentationAttack:
    """Segmentation under one attack at one radius: `embedding` moves tokens away from the clean ones, `apgd-ce` raises
    the pixels' cross-entropy."""

    attack: str
    epsilon: float
    norm: str | None
    num_steps: int
    score: SegmentationScore


@dataclass(frozen=True)
class Segmentation:
    """Classes of pixels by a linear head on patch tokens: clean, under each attack from the smallest radius, and the
    hash of the head."""

    clean: SegmentationScore
    attacked: tuple[SegmentationAttack, ...] = ()
    head: str | None = None


@dataclass(frozen=True)
class Suites:
    """The outcome of every suite; None for those that were not run."""

    retrieval: Retrieval | None = None
    embedding: EmbeddingAttack | None = None
    typographic: Typographic | None = None
    words_and_noise: WordsAndNoise | None = None
    reading: Reading | None = None
    noise: Noise | None = None
    corruptions: Corruptions | None = None
    bias: Bias | None = None
    interpretability: Interpretability | None = None
    drift: Drift | None = None
    probe: Probe | None = None
    segmentation: Segmentation | None = None
