"""What an evaluation says before it begins."""

from collections.abc import Sequence

from seaanchor.data.types import labels_of, texts_of
from seaanchor.evaluation.model_pair import ModelPair
from seaanchor.evaluation.prepare import DataSet
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.table import ExecutionOptions
from seaanchor.utils.text import aligned


def header(
    pairs: Sequence[ModelPair], data: Sequence[DataSet], protocol: Protocol, options: ExecutionOptions
) -> list[str]:
    """Models, data, measures, device and output folders of an evaluation, a line each."""
    outputs = list(dict.fromkeys(str(pair.output) for pair in pairs if pair.output is not None))
    device = str(options.device) if options.group.world == 1 else f"{options.group.world} x {options.device.type}"
    rows = {
        "model": "; ".join(map(_model, pairs)),
        "data": "; ".join(map(_data, data)),
        "measures": ", ".join(_measures(protocol)),
        "device": f"{device}, fp32, {options.batch_size} images at a time",
    }
    return aligned(rows | ({"output": ", ".join(outputs)} if outputs else {}))


def _model(pair: ModelPair) -> str:
    reference = "" if pair.reference is None else f", reference {pair.reference.name}"
    return f"{pair.model.name}, {pair.model.encoder.image_size} px{reference}"


def _data(data: DataSet) -> str:
    found = f"{data.name}: {len(data.images.paths):,} images"
    if data.captions is not None:
        return f"{found} with {len(data.captions.texts):,} captions"
    return found if labels_of(data.images) is None else f"{found} of {len(texts_of(data.images)):,} classes"


def _measures(protocol: Protocol) -> list[str]:
    attacks = []
    for plan in protocol.plans:
        ball, unit = ("ℓ2", 1) if plan.norm == "l2" else ("ℓ∞", 255)
        radii = ", ".join(f"{round(unit * epsilon, 3):g}" + ("/255" if unit > 1 else "") for epsilon in plan.epsilons)
        effort = f"{plan.num_steps:,} {'queries' if plan.name == 'square' else 'steps'}"
        attacks.append(f"{plan.name} ({ball}, ε = {radii}; {effort})")
    return ["clean", *attacks, *protocol.suites]
