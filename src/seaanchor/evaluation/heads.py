"""Which head an evaluation uses: of the model, and of the reference beside it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from seaanchor.data.types import Images
from seaanchor.encoders.classifiers import STORED, fit_probe_head, kind_of, linear_head, own_classifier
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.head_file import check_width, head_digest, write_head
from seaanchor.errors import SeaAnchorError, note
from seaanchor.evaluation.captions import Captions
from seaanchor.evaluation.context import ChosenHead, EvaluationContext
from seaanchor.evaluation.images import listing, training_images, training_source
from seaanchor.evaluation.model_pair import ModelPair
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.results import HeadRecord
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.table import ExecutionOptions
from seaanchor.types import NamedHead


@dataclass(frozen=True)
class HeadChooser:
    """Chooses heads; a probe of the same tower on the same images is fitted once.

    Attributes:
        protocol: what is asked for.
        class_names: file that names the classes, of test and training images alike.
        options: how a probe's embeddings are computed.
        probes: those that were fitted.
    """

    protocol: Protocol
    class_names: Path | None
    options: ExecutionOptions
    probes: dict[str, NamedHead] = field(default_factory=dict)

    def choose(self, pair: ModelPair, dataset: str, images: Images, captions: Captions | None) -> ChosenHead:
        """The head for a model and its reference on a data set.

        Raises:
            SeaAnchorError: the model or the reference lacks what is asked for, or it does not fit their embeddings; a
                suite that compares with texts, and another head.
        """
        model, reference, asked = pair.model, pair.reference, self.protocol.head
        if model.encoder.tokens == "patches":
            if asked is not None:
                found = f"--head {asked} for patch tokens, which give no image a class"
                raise SeaAnchorError(found, "--segmentation-head, or none", "leave --head out")
            return ChosenHead("none")
        if captions is not None:
            kind = kind_of(model, asked or "text")
            if kind != "text":
                raise SeaAnchorError(
                    f"--head {asked} for {dataset}, which has captions and no classes", "--head text", "leave it out"
                )
        else:
            kind = kind_of(model, asked)
        if kind == "text":
            return ChosenHead()
        self._check_suites(kind, model)
        untouched = ModelPair(reference or model, None, None, None)
        named = linear_head(model, kind, asked, lambda: self._probe(untouched.model, dataset, images))
        if named is None:
            raise RuntimeError(f"a head of kind {kind} is linear")
        source = training_source(dataset, self.protocol) if kind == "probe" else asked if kind == "file" else None
        if kind == STORED:
            note(f"{model.name}: answers by the head beside it ({named.head.kind}); --head takes another")
        of_reference = None if reference is None else _of_reference(model, reference, kind, named)
        return ChosenHead(named.head.kind if kind == STORED else kind, named, of_reference, source)

    def _check_suites(self, kind: str, model: LoadedModel) -> None:
        wanting = [name for name in self.protocol.suites if SUITES[name].texts]
        if wanting and model.encode_texts is None:
            raise SeaAnchorError(
                f"suite {', '.join(wanting)} for {model.name}, which has no text tower",
                "suites that need no texts: it compares images with texts",
                "leave it out of --suite",
            )
        if wanting:
            raise SeaAnchorError(
                f"suite {', '.join(wanting)} with a head of kind {kind}",
                "--head text, as it compares images with texts",
                "set --head text, or leave the suite out",
            )

    def _probe(self, model: LoadedModel, dataset: str, images: Images) -> NamedHead:
        """A probe of a tower, by the first process for all."""
        source, options = training_source(dataset, self.protocol), self.options
        training = training_images(dataset, self.protocol, self.class_names)
        key = f"{fingerprint(model.encoder)} {model.encoder.preprocessing} {listing(training)}"
        if key not in self.probes:

            def fit() -> NamedHead | None:
                if not options.group.first:
                    return None
                return fit_probe_head(
                    model, training, source, options.batch_size, options.workers, options.device, self.protocol.seed
                )

            self.probes[key] = options.group.agree(fit())
        return self.probes[key]


def _of_reference(model: LoadedModel, reference: LoadedModel, kind: str, named: NamedHead) -> NamedHead:
    """The reference's head: its own classifier, or the same head as the model's."""
    if kind != "classifier":
        check_width(named, reference.encoder.dim, reference.name, f"the head of {model.name}")
        return named
    theirs = own_classifier(reference)
    if len(theirs.head.weight_CD) != len(named.head.weight_CD) or theirs.class_names != named.class_names:
        raise SeaAnchorError(
            f"the classifiers of {model.name} and of its reference {reference.name} have other classes "
            f"({len(named.head.weight_CD)} and {len(theirs.head.weight_CD)})",
            "the same classes, or one head for both",
            "name another --reference, or a head for both with --head probe or --head FILE",
        )
    return theirs


def for_reference(chosen: ChosenHead) -> ChosenHead:
    """The head of an evaluation of the reference alone."""
    return replace(chosen, named=chosen.of_reference, of_reference=None)


def head_record(chosen: ChosenHead) -> HeadRecord:
    """The head as a result holds it."""
    if chosen.named is None:
        return HeadRecord()
    digest = head_digest(chosen.named)
    copy = None if chosen.kind == "classifier" else f"head-{digest}.safetensors"
    return HeadRecord(chosen.kind, digest, chosen.source, copy)


def write_copy(chosen: ChosenHead, folder: Path) -> None:
    """Write the head beside the result, where nothing else holds it."""
    record = head_record(chosen)
    if chosen.named is not None and record.file is not None and not (folder / record.file).is_file():
        write_head(chosen.named, folder / record.file)


def head_notes(context: EvaluationContext) -> list[str]:
    """What a reader must know of the head, in words."""
    chosen = context.chosen
    if chosen.named is None:
        return []
    said = {"classifier": "the model's own classifier", "probe": "a linear probe", "file": "a linear head from a file"}
    source = f" ({chosen.source})" if chosen.source else ""
    count, present = len(context.class_names), len(set(getattr(context.images, "labels", ())))
    among = f", {present:,} of them in the data" if present < count else ""
    notes = [f"answers by {said.get(chosen.kind, chosen.kind)}{source}: {count:,} classes{among}"]
    theirs = chosen.of_reference
    if theirs is not None and head_digest(theirs) != head_digest(chosen.named):
        notes.append("the reference answers by another classifier: differences are of model and classifier together")
    return notes
