"""What is asked for: everything a number depends on besides the model and the images."""

from dataclasses import asdict, dataclass
from typing import Any

from seaanchor.encoders.tokens import Tokens
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.corruptions import CORE
from seaanchor.evaluation.results import AttackSettings, ProtocolRecord
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.utils.numbers import check_seed
from seaanchor.utils.records import to_plain

PLACES = ("model", "dataset", "training", "head", "segmentation_head")


@dataclass(frozen=True)
class Protocol:
    """What an accuracy depends on besides the model and the images.

    Attributes:
        plans: attacks on the classifier.
        templates: prompts; where there are none, those that a data set brings, or "a photo of a {}."
        samples: at most this many images of each set, balanced over the classes.
        seed: of subsets, and of every suite's own drawings.
        image_size: the models' input side in pixels, where the architecture allows another than its own.
        preprocess: resizing and normalisation in place of the models' own, as `load_model` takes it.
        suites: names out of `SUITES`.
        typographic: how words are drawn.
        embedding: the attack of the suites `embedding` and `segmentation`.
        corruptions: kinds of corruption of the suite of that name.
        training: training images of the suite and of the head `probe`, or images with masks for `segmentation`; by
            default the train split beside each set.
        head: what turns embeddings into answers: `text`, `classifier`, `probe` or a file; by default the head that lies
            with the model, else texts, else the model's own classifier.
        tokens: what of the models' towers is the embedding, as in `Encoder`; by default what a run was trained with.
        segmentation_head: file of the head of the suite `segmentation`; by default one is fitted.
    """

    plans: tuple[AttackPlan, ...]
    templates: tuple[str, ...] = ()
    samples: int | None = None
    seed: int = 0
    image_size: int | None = None
    preprocess: str | None = None
    suites: tuple[str, ...] = ()
    typographic: TypographicPlan = TypographicPlan()
    embedding: AttackPlan | None = None
    corruptions: tuple[str, ...] = CORE
    training: str | None = None
    head: str | None = None
    tokens: Tokens | None = None
    segmentation_head: str | None = None

    def __post_init__(self) -> None:
        """A seed that every generator takes."""
        check_seed(self.seed)


def settings_of(plan: AttackPlan) -> AttackSettings:
    """An attack as a result holds it."""
    return AttackSettings(**asdict(plan))


def comparable(protocol: Protocol | ProtocolRecord) -> dict[str, Any]:
    """What must be the same in all processes of an evaluation, as plain data: all but names and places of files, of
    which a record holds hashes."""
    found = {key: value for key, value in to_plain(protocol).items() if key not in PLACES}
    if isinstance(protocol, ProtocolRecord):
        found["head"] = {"kind": protocol.head.kind, "digest": protocol.head.digest}
        found["segmentation_head"] = protocol.segmentation_head
    return found
