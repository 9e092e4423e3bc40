"""What each process of `test_distributed` does: a list of jobs, read from a file. Started by hand or by a launcher,
never collected.

python distributed_worker.py JOBS.json            in one of the processes that a launcher starts
python distributed_worker.py JOBS.json JOBS.json  two processes for each, started by hand
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch

import seaanchor.training.loop as loop
from seaanchor.api import train_from_config
from seaanchor.config.schema import RunConfig, from_dict
from seaanchor.data.loader import SkipLog
from seaanchor.distributed.launch import open_group
from seaanchor.distributed.process_group import ProcessGroup, company, gathered
from seaanchor.distributed.sharding import own, whole
from seaanchor.errors import SeaAnchorError
from seaanchor.training.setup import Setup, make_targets, prepare, share_stream, start_accelerator, to_device
from seaanchor.training.step import Moving, Part, whole_step
from seaanchor.utils.log import log_to_terminal


def gradients(config: RunConfig, target: str) -> None:
    """Losses and gradients of every batch of the run, at the untrained weights."""
    accelerator = start_accelerator("cpu")
    setup = prepare(config, accelerator.num_processes)
    moving = unmoved(setup, accelerator)
    with company() as group:
        found = {}
        for step, shares in enumerate(share_stream(setup, 0, group.rank, group.world, SkipLog(setup.images))):
            cleans = [to_device(share.batch, accelerator.device) for share in shares]
            parts = [
                Part(clean, make_targets(setup, clean, None), share.counts)
                for clean, share in zip(cleans, shares, strict=True)
            ]
            (images,) = group.total([sum(len(part.clean.index_B) for part in parts if part.counts)])
            record = whole_step(setup.method, moving, accelerator, parts, config, step, setup.reference, images)
            order_B = torch.cat([part.clean.index_B[: len(part.clean.index_B) * part.counts] for part in parts])
            order_B, loss_B = gathered(group, [order_B, record.objective_B])
            found[f"loss {step}"] = loss_B[order_B.argsort()]
            modules = {"policy": accelerator.unwrap_model(moving.policy), "dual": moving.dual}
            grads = {
                name: whole([p.grad for p in module.parameters()], True)
                for name, module in modules.items()
                if module is not None
            }
            found |= {
                f"{name} {step}": torch.cat([grad.flatten() for grad in tensors]) for name, tensors in grads.items()
            }
        write(group, found, target)


def unmoved(setup: Setup, accelerator) -> Moving:
    """The run's moving parts under optimizers of step 0."""
    moving = loop.make_moving(setup, accelerator, None)
    for optimizer in filter(None, (moving.optimizer, moving.dual_optimizer)):
        for group in optimizer.param_groups:
            group["lr"] = group["weight_decay"] = 0.0
    return moving


def run(
    config: RunConfig,
    stop: int | None = None,
    kill: int | None = None,
    raises: int | None = None,
    alike: str | None = None,
    held: str | None = None,
) -> None:
    """Train; the last process is interrupted, killed or in trouble in a batch, or all processes' weights are compared
    at the end, or what each holds."""
    original, seen = loop.whole_step, []
    last = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1

    def step(method, moving, accelerator, parts, config, number, reference, *args):
        seen[:] = moving, reference
        if last and kill == number + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if last and raises == number + 1:
            raise ValueError("a cosmic ray")
        if last and stop == number + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(method, moving, accelerator, parts, config, number, reference, *args)

    loop.whole_step = step
    try:
        train_from_config(config)
    finally:
        loop.whole_step = original
    if alike is not None:
        modules = (seen[0].policy, seen[0].dual)
        with company() as group:
            everyones = group.gather([p.detach().numpy().tobytes() for module in modules for p in module.parameters()])
            if group.rank == 0:
                Path(alike).write_text(
                    json.dumps([all(mine == everyones[0] for mine in everyones), len(everyones), len(everyones[0])])
                )

    if held is not None:
        Path(f"{held}-{os.environ['RANK']}").write_text(json.dumps(sizes(*seen)))


def sizes(moving: Moving, reference: torch.nn.Module) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers that this process holds of each thing that is split, and how many there are of it in all."""
    moments = [value for state in moving.optimizer.state.values() for value in state.values() if value.dim()]
    averages = {"average": moving.average.mean, "moving_reference": moving.moving_reference.mean}
    things = {
        "policy": list(moving.policy.parameters()),
        "moments": moments,
        "reference": list(reference.parameters()),
    } | averages
    return {name: sum(map(torch.numel, own(tensors))) for name, tensors in things.items()}, {
        name: sum(map(torch.numel, t)) for name, t in things.items()
    }


def write(group: ProcessGroup, found: dict, target: str) -> None:
    if group.rank == 0:
        torch.save(found, target)


def evaluate(config: RunConfig) -> None:
    """Wait for the others as an evaluation does; the first process, which holds the connection to all, is killed
    meanwhile."""
    with open_group() as ranks:
        ranks.barrier()
        if ranks.first:
            time.sleep(2)  # as soon as all have begun
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.gather(ranks.rank)


def main(file: Path) -> None:
    torch.set_num_threads(1)
    log_to_terminal()
    for number, job in enumerate(json.loads(file.read_text())):
        config = from_dict(RunConfig, job["config"])
        outcome = "done"
        try:
            {"gradients": gradients, "run": run, "evaluate": evaluate}[job["do"]](config, **job.get("options", {}))
        except SeaAnchorError as error:
            outcome = str(error)
            if job.get("ends"):
                print(f"error: {error}", file=sys.stderr, flush=True)
                sys.exit(2)
        file.with_name(f"{file.stem}-{number}-{os.environ.get('RANK', '0')}.txt").write_text(outcome)


def by_hand(file: Path, world: int = 2) -> list[int]:
    """Start processes without a launcher, which would end the others as soon as one is lost; their numbers. Their
    errors go to a file each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        if child := os.fork():
            children.append(child)
            continue
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        os.dup2(os.open(file.with_name(f"{file.stem}-{rank}.err"), os.O_WRONLY | os.O_CREAT), 2)
        main(file)
        os._exit(0)
    return children


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[1:]]
    if len(files) == 1:
        main(files[0])
    else:
        import accelerate  # noqa: F401 (once instead of in every process)
        import open_clip  # noqa: F401

        started = {child: f"{file.stem} {rank}" for file in files for rank, child in enumerate(by_hand(file))}
        begun = time.monotonic()
        for _ in range(len(started)):
            child, status = os.wait()
            print(json.dumps([started[child], os.waitstatus_to_exitcode(status), time.monotonic() - begun]), flush=True)
