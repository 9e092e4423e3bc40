"""Method, data and citations of a model card, from the settings of the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seaanchor.utils.text import plural

PAPERS = {
    "lore": (
        "LORE: Lagrangian-Optimized Robust Embeddings for Visual Encoders (Khodabandeh et al. 2025)",
        "2505.18884",
    ),
    "preference": (
        "Aligning Visual Contrastive learning models via Preference Optimization (Afzali et al., ICLR 2025)",
        "2411.08923",
    ),
    "fare": (
        "Robust CLIP: Unsupervised Adversarial Fine-Tuning of Vision Embeddings for Robust Large Vision-Language "
        "Models (Schlarmann et al., ICML 2024)",
        "2402.12336",
    ),
    "tecoa": (
        "Understanding Zero-Shot Adversarial Robustness for Large-Scale Models (Mao et al., ICLR 2023)",
        "2212.07016",
    ),
}
PREFERENCES = ("dpo", "ipo", "kto", "ppo")
Settings = Mapping[str, Any]


def _part(settings: Settings, name: str) -> Settings:
    return settings.get(name) or {}


def papers(settings: Settings) -> list[str]:
    """Keys of the papers whose method a run is: by its objective and its anchor."""
    objective, anchor = _part(settings, "objective").get("kind"), _part(settings, "anchor").get("kind")
    found = ["lore"] if anchor == "lagrangian" else []
    found += ["preference"] if objective in PREFERENCES else []
    found += ["tecoa"] if objective == "tecoa" else []
    return found + (["fare"] if objective == "embedding_distance" else [])


def recipe_name(settings: Settings) -> str:
    """A short name of a run's method, for a title."""
    objective, anchor = (str(_part(settings, name).get("kind")) for name in ("objective", "anchor"))
    if objective == "embedding_distance":
        return {"lagrangian": "lore", "none": "fare"}.get(anchor, anchor)
    return objective if anchor in ("none", "kl") else f"{objective}-{anchor}"


def method_lines(settings: Settings) -> list[str]:
    """The four parts of the method with ε and ρ, a line each."""
    objective, anchor, attack, adapter = (
        _part(settings, name) for name in ("objective", "anchor", "perturbation", "adapter")
    )
    lines = [f"- objective: `{objective.get('kind')}`" + _with(objective, {"beta": "β"}, PREFERENCES)]
    held = f", on {anchor.get('space', 'embedding')}s"
    known = {"lagrangian": {"rho": "ρ"}, "penalty": {"weight": "weight"}, "kl": {"weight": "weight"}}
    kind = str(anchor.get("kind"))
    said = _with(anchor, known.get(kind, {}), tuple(known))
    lines.append(f"- anchor: `{kind}`{said}{held if kind in ('lagrangian', 'penalty') else ''}")
    radius = ""
    if "pgd" in str(attack.get("kind")):
        count = attack.get("num_steps")
        steps = plural(count, "step") if isinstance(count, int) else f"{count} steps"
        radius = f", ε = {attack.get('epsilon')} ({attack.get('norm')}), {steps}"
    lines.append(f"- perturbation: `{attack.get('kind')}`{radius}")
    return [*lines, f"- what was trained: `{adapter.get('kind')}`"]


def _with(part: Settings, names: Mapping[str, str], kinds: tuple[str, ...]) -> str:
    if part.get("kind") not in kinds:
        return ""
    return "".join(f", {shown} = {part[name]:g}" for name, shown in names.items() if part.get(name) is not None)


def data_lines(settings: Settings, steps: int | None, images_seen: int | None = None) -> list[str]:
    """What the run was trained on; of a path only its last part, which is nobody's private business.

    Args:
        settings: of the run.
        steps: that it did.
        images_seen: in those, repeats counted. It does not follow from the settings: last batches may be smaller, and
            pictures unreadable, and the number of processes is not among them.
    """
    source = settings.get("train_data")
    names = [source] if isinstance(source, str) else list(source or [])
    shown = ", ".join(f"`{_short(name)}`" for name in names) or "not known"
    count = "" if steps is None else f": {plural(steps, 'step')}"
    count += "" if images_seen is None else f", {plural(images_seen, 'image')} seen, repeats counted"
    lines = [f"- trained on {shown}{count}"]
    accumulated = settings.get("grad_accumulation")
    more = {
        "batch size per process": settings.get("batch_size"),
        "gradient accumulation": None if accumulated == 1 else accumulated,
        "learning rate": settings.get("lr"),
        "seed": settings.get("seed"),
    }
    said = ", ".join(f"{name} {value}" for name, value in more.items() if value is not None)
    return lines + ([f"- {said}"] if said else [])


def _short(source: str) -> str:
    path = Path(source)
    return path.name if path.is_absolute() or source.startswith((".", "~")) or path.exists() else source


def citations(settings: Settings) -> list[str]:
    """A line for each paper whose method the run is."""
    return [
        f"- {title}, [arXiv {number}](https://arxiv.org/abs/{number})"
        for title, number in (PAPERS[key] for key in papers(settings))
    ]
