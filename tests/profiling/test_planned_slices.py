"""Slices of a run on GPUs that are elsewhere: by hand, and beside what a run chooses."""

from dataclasses import replace

from seaanchor.config.recipes import dpo_linear, fare
from seaanchor.config.schema import RunConfig
from seaanchor.data.reading import AHEAD
from seaanchor.distributed.process_group import ONE_PROCESS
from seaanchor.profiling import plan as planning
from seaanchor.profiling.cost_model import Cost
from seaanchor.profiling.fitting import FILLED, fitted
from seaanchor.profiling.hardware import Fleet, Machine
from seaanchor.profiling.memory import CONTEXT, SPARE, Footprint
from seaanchor.profiling.memory_advice import footprint_of, held_bytes
from seaanchor.profiling.op_counter import Work
from seaanchor.profiling.plan import lines, plan
from seaanchor.profiling.planned_slices import does_not_fit_on, in_words, planned_slices
from seaanchor.training.setup import prepare
from seaanchor.training.state import make_state

BATCH = replace(RunConfig(), batch_size=64)
COST = Cost(64, {}, Work.sum([]), Footprint(1e9, 1e8), 50_000_000)  # 200 MB of gradients
PIXELS = 24_576  # of an image of 32 x 32 x 3 in fp32, clean and perturbed


def on(memory: float) -> Machine:
    return Machine("card", 1e12, 1e12, 1e11, memory, "by hand")


def test_slices_by_hand():
    """5 GB less 1 GiB leave 3,926,258,176. Beside 1.2 GB and 64 waiting images (1,572,864) there is room for 24 of
    110,000,000 - 24,576 bytes each."""
    found = planned_slices(BATCH, COST, 32, on(5e9), 1, CONTEXT)
    assert (found.size, found.largest, found.whole, found.chosen) == (24, 24, False, True)
    assert found.bytes == 1_200_000_000 + 64 * PIXELS + 24 * (110_000_000 - PIXELS) + 2**30 == 4_914_724_864
    words = in_words(found, on(5e9), 26)
    assert "--slice-size 24, chosen by itself, takes 4.58 GiB of 4.66 GiB" in words and "--batch-size 26" in words
    twice = planned_slices(replace(BATCH, grad_accumulation=2), COST, 32, on(5e9), 1, CONTEXT)
    assert twice.bytes == found.bytes + 64 * PIXELS


def test_a_batch_that_fits_stays_whole():
    """1 GB, 64 images of 110 MB and 1 GiB."""
    found = planned_slices(BATCH, COST, 32, on(9_113_741_824), 1, CONTEXT)
    assert (found.size, found.whole, found.bytes) == (64, True, 9_113_741_824)
    assert in_words(found, on(9_113_741_824), 64) == "yes, the whole batch at once; up to --batch-size 64"
    assert planned_slices(BATCH, COST, 32, on(9_113_741_823), 1, CONTEXT).size == 62  # gradients take two images


def test_a_size_that_was_asked_for_is_kept():
    asked = planned_slices(replace(BATCH, slice_size=8), COST, 32, on(5e9), 1, CONTEXT)
    assert (asked.size, asked.largest, asked.chosen) == (8, 24, False)
    assert "--slice-size 8, takes" in in_words(asked, on(5e9), 26)
    large = planned_slices(replace(BATCH, slice_size=32), COST, 32, on(5e9), 1, CONTEXT)
    assert in_words(large, on(5e9), 26).startswith("no: 32 images at once take 5.40 GiB of 4.66 GiB; --slice-size 24")
    sharded = planned_slices(replace(BATCH, shard=True), COST, 32, on(5e9), 2, CONTEXT)
    assert in_words(sharded, on(5e9), 26).startswith("no: 64 images at once take 8.49 GiB of 4.66 GiB; --slice-size 24")


def test_an_error_where_not_even_one_image_fits():
    """Of 2.32 GB 1,246,258,176 bytes are left: 44,685,312 beside what is fixed, of 109,975,424 for an image. The root
    of that share of 32 pixels is 20.4, and 65,290,112 are missing."""
    card = on(2.32e9)
    found = planned_slices(BATCH, COST, 32, card, 1, CONTEXT)
    assert (found.size, found.largest) == (0, 0) and in_words(found, card, 0) is None
    error = does_not_fit_on(found, card, card.memory - CONTEXT)
    assert error.found == "a step does not fit on card, even with one image at a time"
    assert error.expected.startswith("about 1.22 GiB: 1.12 GiB of weights") and "1.16 GiB of 2.16 GiB" in error.expected
    assert "--image-size 16 in place of 32" in error.change and "a GPU of 2.22 GiB or more, such as T4" in error.change


def test_the_plan_is_what_a_run_chooses(tiny_run, monkeypatch):
    """With as much memory, of which a processor fills a share: half an image more than five."""
    images = 5
    setup = prepare(tiny_run(fare("8/255"), batch_size=12, epochs=4))
    state = make_state(setup)
    need, trained = footprint_of(setup, setup.config, 1), sum(p.nbytes for p in setup.policy.parameters())
    room = need.fixed + trained + 12 * PIXELS + (images + 0.5) * ((1 + SPARE) * need.per_image - PIXELS)
    monkeypatch.setattr(planning, "fleet", lambda text: Fleet(1, on(room + CONTEXT)))
    found = plan(setup.config, "card")
    there = room / FILLED + AHEAD * 12 * 12 * 32**2 - held_bytes(setup, state)
    chosen = fitted(setup, state, ONE_PROCESS, lambda device: int(there))
    assert found.slices.size == chosen.slice_size == images
    assert f"--slice-size {images}, chosen by itself" in lines(found)[-1]


def test_a_linear_map_has_no_slices(tiny_run):
    config = replace(dpo_linear(), model=tiny_run(fare()).model, batch_size=64, epochs=3)
    found = plan(config, "A10G", 1000)
    assert found.slices is None and "yes; up to --batch-size" in lines(found)[-1]
