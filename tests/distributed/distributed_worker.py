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
from seaanchor.data.reading import AHEAD
from seaanchor.distributed.launch import open_group, start_training
from seaanchor.distributed.process_group import ProcessGroup, gathered
from seaanchor.distributed.sharding import gather_full, local_tensors
from seaanchor.distributed.watch import watched_group
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.fitting import FILLED, beside_waiting, fitted
from seaanchor.profiling.memory_advice import footprint_of, held_bytes, in_slices
from seaanchor.training.batches import load_steps, make_micro_batch
from seaanchor.training.setup import Setup, prepare
from seaanchor.training.state import TrainState, make_state
from seaanchor.training.step import train_step
from seaanchor.utils.log import log_to_terminal


def gradients(config: RunConfig, target: str) -> None:
    """Losses and gradients of every step of the run, at the untrained weights."""
    device = start_training("cpu")
    with watched_group() as group:
        setup = prepare(config, group.world, device)
        state, found = unmoved(setup, group), {}
        for step, loaded in enumerate(load_steps(setup, 0, group.rank, group.world, SkipLog(setup.images))):
            micro_batches = [make_micro_batch(setup, batch, is_padding, None) for batch, is_padding in loaded]
            (images,) = group.total([sum(micro_batch.num_images for micro_batch in micro_batches)])
            record = train_step(setup.method, state, micro_batches, config, step, setup.reference, group, images)
            order_B = torch.cat([clean.batch.index_B[: clean.num_images] for clean in micro_batches])
            order_B, loss_B = gathered(group, [order_B, record.objective_B])
            found[f"loss {step}"] = loss_B[order_B.argsort()]
            modules = {"policy": state.encoder, "dual": state.dual}
            grads = {
                name: gather_full([p.grad for p in module.parameters()], True)
                for name, module in modules.items()
                if module is not None
            }
            found |= {
                f"{name} {step}": torch.cat([grad.flatten() for grad in tensors]) for name, tensors in grads.items()
            }
        write(group, found, target)


def unmoved(setup: Setup, group: ProcessGroup) -> TrainState:
    """The run's state under optimizers that move nothing."""
    state = make_state(setup, group)
    for optimizer in filter(None, (state.optimizer, state.dual_optimizer)):
        for parameters in optimizer.param_groups:
            parameters["lr"] = parameters["weight_decay"] = 0.0
    return state


def run(
    config: RunConfig,
    stop: int | None = None,
    kill: int | None = None,
    raises: int | None = None,
    alike: str | None = None,
    held: str | None = None,
) -> None:
    """Train; the last process is interrupted, killed or in trouble in a step, or all processes' weights are compared
    at the end, or what each holds."""
    original, seen = loop.train_step, []
    last = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1

    def step(method, state, micro_batches, config, number, reference, *args):
        seen[:] = state, reference
        if last and kill == number + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if last and raises == number + 1:
            raise ValueError("a cosmic ray")
        if last and stop == number + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(method, state, micro_batches, config, number, reference, *args)

    loop.train_step = step
    try:
        train_from_config(config)
    finally:
        loop.train_step = original
    if alike is not None:
        modules = (seen[0].policy, seen[0].dual)
        with watched_group() as group:
            everyones = group.gather([p.detach().numpy().tobytes() for module in modules for p in module.parameters()])
            if group.rank == 0:
                Path(alike).write_text(
                    json.dumps([all(mine == everyones[0] for mine in everyones), len(everyones), len(everyones[0])])
                )

    if held is not None:
        Path(f"{held}-{os.environ['RANK']}").write_text(json.dumps(sizes(*seen)))


def sizes(state: TrainState, reference: torch.nn.Module) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers that this process holds of each thing that is split, and how many there are of it in all."""
    moments = [value for values in state.optimizer.state.values() for value in values.values() if value.dim()]
    averages = {"average": state.average.mean, "moving_reference": state.moving_reference.mean}
    things = {
        "policy": list(state.policy.parameters()),
        "moments": moments,
        "reference": list(reference.parameters()),
    } | averages
    return {name: sum(map(torch.numel, local_tensors(tensors))) for name, tensors in things.items()}, {
        name: sum(map(torch.numel, t)) for name, t in things.items()
    }


def slices(config: RunConfig, images: list[int], target: str) -> None:
    """The slice size that each process ends with, where it has room for so many images; -1 is not even for one."""
    device = start_training("cpu")
    with watched_group() as group:
        setup = prepare(config, group.world, device)
        state = make_state(setup, group)
        need, room = footprint_of(setup, config, group.world), 0.0
        if need is not None:
            room = beside_waiting(in_slices(need, state), config, setup.model.encoder.image_size).of(
                images[group.rank] + 0.5
            )
        if images[group.rank] > 0:  # of what a processor has, a chosen slice fills a share
            room /= FILLED
        room += AHEAD * config.batch_size * 12 * setup.model.encoder.image_size**2 - held_bytes(setup, state)
        found = fitted(setup, state, group, lambda device: int(group.world * room))
        Path(f"{target}-{group.rank}").write_text(json.dumps(found.slice_size))


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
        changes = job.get("on_rank", {}).get(os.environ.get("RANK", "0"), {})
        config = from_dict(RunConfig, job["config"] | changes)
        outcome = "done"
        try:
            do = {"gradients": gradients, "run": run, "evaluate": evaluate, "slices": slices}[job["do"]]
            do(config, **job.get("options", {}))
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
        import open_clip  # noqa: F401 (once instead of in every process)

        started = {child: f"{file.stem} {rank}" for file in files for rank, child in enumerate(by_hand(file))}
        begun = time.monotonic()
        for _ in range(len(started)):
            child, status = os.wait()
            print(json.dumps([started[child], os.waitstatus_to_exitcode(status), time.monotonic() - begun]), flush=True)
