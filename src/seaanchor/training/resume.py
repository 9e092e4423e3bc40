"""Opening a run folder: what may be written over, and what a resumed run goes on from."""

import os
from collections.abc import Sequence
from typing import Any

from seaanchor.config.run_settings import for_run_folder, read_settings, with_absolute_paths
from seaanchor.config.schema import RunConfig, from_dict, to_dict
from seaanchor.config.validation import differences
from seaanchor.errors import SeaAnchorError, naming
from seaanchor.registry import plugin_hashes
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.start import ENVIRONMENT
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.environment import environment
from seaanchor.utils.json_text import to_json
from seaanchor.utils.locks import LOCK
from seaanchor.utils.log import log
from seaanchor.utils.plain_files import read_json
from seaanchor.utils.staging import remove


def check_output(config: RunConfig) -> None:
    """See, without writing anything, that the run may go to its output folder.

    Raises:
        SeaAnchorError: it holds another run, the same one with other settings, or something else.
    """
    folder, output = RunFolder(config.output), config.output
    if output.exists() and not output.is_dir():
        raise SeaAnchorError(f"{output} is a file", "a folder", "name another --output")
    if folder.config.exists():
        if config.resume != "auto" and _never_began(folder):
            return
        if config.resume != "auto":
            raise SeaAnchorError(
                f"{output} already holds a run",
                "an empty output folder",
                "use --resume auto to go on with it, or name another --output",
            )
        if changed := changed_settings(folder, config):
            raise SeaAnchorError(
                f"the run in {output} was started with other settings ({'; '.join(changed[:6])})",
                "the same settings when resuming",
                "undo the change, or start anew in another --output",
            )
    elif output.exists() and any(not path.name.endswith((".partial", LOCK)) for path in output.iterdir()):
        raise SeaAnchorError(
            f"{output} is not empty and holds no run", "an empty or new folder", "name another --output"
        )


def _never_began(folder: RunFolder) -> bool:
    """Whether the run ended before its first step, such as by a mistake in a part of somebody's own: nothing is lost
    with it."""
    left = [path.name for path in folder.root.iterdir() if not path.name.startswith(".")]
    return ENVIRONMENT in left and set(left) <= {"config.yaml", ENVIRONMENT, "metrics.jsonl"} and not folder.rows()


def saved_config(folder: RunFolder, plugins: Sequence[str]) -> RunConfig:
    """The settings that a run folder holds.

    Args:
        folder: of the run.
        plugins: those that were named by the user. A folder names none on its own: they would be executed.

    Raises:
        SeaAnchorError: the folder names another plugin, or its settings cannot be read.
    """
    data = read_settings(folder.config)
    # files that were moved away run nothing: their parts have to come from those that were named
    data["plugins"] = [name for name in data.get("plugins") or () if not _is_gone(name)]
    if unknown := [name for name in data["plugins"] if name not in plugins]:
        raise SeaAnchorError(
            f"the run in {folder.root} names the plugin {', '.join(map(str, unknown))}",
            "plugins that you name yourself: a plugin is Python that is executed",
            "add it with --plugin if you trust it",
        )
    with naming(folder.config):
        return from_dict(RunConfig, data)


def _is_gone(plugin: Any) -> bool:
    return isinstance(plugin, str) and plugin.endswith(".py") and not os.path.exists(plugin)


def changed_settings(folder: RunFolder, config: RunConfig) -> list[str]:
    """Settings that a run folder holds otherwise, as `name: old → new`, however their paths are written.

    Raises:
        SeaAnchorError: as `saved_config`.
    """
    saved = to_dict(saved_config(folder, config.plugins))
    return differences(with_absolute_paths(saved), with_absolute_paths(to_dict(config)))


def open_run(
    config: RunConfig,
    identity: dict[str, Any],
    processes: int = 1,
    start: dict[str, Any] | None = None,
    computed: dict[str, str] | None = None,
) -> tuple[RunFolder, dict[str, Any] | None]:
    """The run folder, ready to be written, and the checkpoint to go on from, if any.

    What a killed run left half written is cleared away, and so are log lines from after the checkpoint: those steps
    are run again.

    Args:
        identity: what must be the same when resuming, besides the settings; `global_batch_size` is the number of
            images of a step.
        processes: how many processes share these.
        start: what env.json says of the encoder that the run starts from.
        computed: what it says of the device and the precisions that the run's numbers come of.

    Raises:
        SeaAnchorError: as `check_output`; or model weights, images or their number in a step are not those the run
            started with.
    """
    import yaml

    check_output(config)
    folder = RunFolder(config.output)
    state = folder.latest() if config.resume == "auto" else None
    plugins = plugin_hashes(config.plugins)
    if state is not None:
        _check_identity(folder, config, _identity_before(folder, config, state, identity), identity, processes)
        before = _environment_before(config)
        _tell_of_edits(before, plugins, state["step"])
        _tell_of_precision(before, computed or {}, state["step"])
    settings = for_run_folder(to_dict(config), config.output)
    write_atomic(folder.config, yaml.safe_dump(settings, sort_keys=False))
    told = {"start": start or {}, "plugins": plugins, "computed": computed or {}}
    write_atomic(config.output / ENVIRONMENT, to_json(environment() | told, indent=2))
    rows = [row for row in folder.rows() if row["step"] <= state["step"]] if state else []
    write_atomic(folder.metrics, "".join(to_json(row) + "\n" for row in rows))
    for torn in (path for path in folder.checkpoints() if state is None or path > folder.checkpoint(state["step"])):
        torn.rename(torn.with_suffix(".torn"))
    for place in (config.output, config.output / "checkpoints"):  # evaluations go on with theirs
        for partial in place.glob(".*.partial"):
            remove(partial)
    return folder, state


def _identity_before(
    folder: RunFolder, config: RunConfig, state: dict[str, Any], now: dict[str, Any]
) -> dict[str, Any]:
    """The checkpoint's identity. Older ones have `together` in place of `global_batch_size`, and those of version 0.1.0
    the number of processes; they say nothing of preprocessing, which was OpenCLIP's default for all models, and nothing
    of the sizes of images."""
    before = dict(state["identity"])
    if "together" in before:
        before["global_batch_size"] = before.pop("together")
    if "processes" in before:
        batch_size = saved_config(folder, config.plugins).batch_size
        before["global_batch_size"] = before.pop("processes") * batch_size
    if "image sizes" in now:
        before.setdefault("image sizes", now["image sizes"])
    if "preprocessing" in now:
        before.setdefault("preprocessing", str(now["preprocessing"]).partition(",")[0])
    return before


def _environment_before(config: RunConfig) -> dict[str, Any]:
    """What env.json says of the run until now; parts that cannot be read, or that an earlier version did not write, are
    empty."""
    try:
        said = read_json(config.output / ENVIRONMENT)
    except (SeaAnchorError, OSError, ValueError):
        said = {}
    parts = {name: said.get(name) for name in ("plugins", "computed")} if isinstance(said, dict) else {}
    return {name: part for name, part in parts.items() if isinstance(part, dict)}


def _tell_of_edits(before: dict[str, Any], plugins: dict[str, str], step: int) -> None:
    """Warn of plugins that are not what they were: to correct one and go on is allowed, but not in silence."""
    if "plugins" not in before:
        return
    then = list(before["plugins"].values())
    if edited := [os.path.basename(name) for name, now in plugins.items() if now not in then]:
        log.warning(
            f"{', '.join(edited)}: not the plugin that this run was last started with. Steps after {step:,} are "
            "computed by what it is now; start anew in another --output if all of them should be"
        )


def _tell_of_precision(before: dict[str, Any], now: dict[str, str], step: int) -> None:
    """Warn where another device or precision goes on, as a processor without fast bf16 arithmetic does in fp32."""
    then = before.get("computed") or {}
    if changed := [f"{part}: {then[part]} → {value}" for part, value in now.items() if then.get(part, value) != value]:
        log.warning(
            f"steps after {step:,} are computed otherwise than those before ({'; '.join(changed)}). Their "
            "numbers may differ a little; start anew in another --output where that matters"
        )


def _check_identity(
    folder: RunFolder, config: RunConfig, before: dict[str, Any], now: dict[str, Any], processes: int
) -> None:
    if changed := [name for name, value in now.items() if name != "global_batch_size" and before.get(name) != value]:
        found = f"the run in {folder.root} was started with other {' and '.join(changed)}"
        raise SeaAnchorError(
            found,
            "the same weights, preprocessing and image files when resuming",
            "undo the change, or start anew in another --output",
        )
    wanted, here = int(before["global_batch_size"]), int(now["global_batch_size"])
    if wanted == here:
        return
    found = (
        f"a step of the run in {folder.root} sees {wanted} images, but here {here}: "
        f"{config.batch_size} at once x {processes} process{'es' if processes > 1 else ''} x {config.grad_accumulation}"
    )
    settings = {
        "--batch-size": processes * config.grad_accumulation,
        "--grad-accumulation": processes * config.batch_size,
    }
    fits = [f"{name} {wanted // others}" for name, others in settings.items() if wanted % others == 0]
    change = (
        f"set {' or '.join(fits)}"
        if fits
        else f"set --batch-size and --grad-accumulation so that their product times the processes is {wanted}"
    )
    raise SeaAnchorError(found, f"{wanted} images a step, on however many processes", change)
