"""What came of the tries of a section, and the table of them."""

import contextlib
import io
import logging
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from traceback import extract_tb

from seaanchor.errors import SeaAnchorError


@dataclass
class Outcome:
    """A section: how many tries there were, and what failed."""

    section: str
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, failure: str | None) -> None:
        """One more try; None where it went as it should. A failure is printed at once."""
        self.tried += 1
        if failure is not None:
            self.failures.append(failure)
            print(f"{self.section}: {failure}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Options:
    """How a section is run: how many tries, and the seed of what is drawn."""

    count: int
    seed: int = 0

    def rng(self, *of: object) -> random.Random:
        """Random numbers that depend on the seed and on what they are for."""
        return random.Random(f"{self.seed} {of}")


def answer(call: Callable[[], object]) -> tuple[str, str]:
    """What a call came to: `read`, `refused` with a SeaAnchorError, or `crashed`, with where."""
    try:
        with quiet():
            call()
    except SeaAnchorError as error:
        return "refused", error.found
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        frames = [frame for frame in extract_tb(error.__traceback__) if "/seaanchor/" in frame.filename]
        where = f"{frames[-1].filename.rpartition('/seaanchor/')[2]}:{frames[-1].lineno}" if frames else "outside"
        return "crashed", f"{type(error).__name__} in {where}: {str(error).splitlines()[0][:100] if str(error) else ''}"
    return "read", ""


def command(*arguments: object) -> Callable[[], None]:
    """A command in this process: nothing where it ends with 0, a SeaAnchorError where it ends with a message."""

    def call() -> None:
        from seaanchor.cli import app

        before, sys.argv = sys.argv, ["seaanchor", *map(str, arguments)]
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                app.main()
        except SystemExit as end:
            if end.code:
                said = errors.getvalue().strip()
                if end.code == 2 and "error: " in said:
                    raise SeaAnchorError(said.partition("error: ")[2], "", "") from None
                raise RuntimeError(f"ended with {end.code}: {said[-300:]}") from None
        finally:
            sys.argv = before

    return call


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing printed, nothing logged, no warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def table(outcomes: list[Outcome]) -> str:
    """Section, tried, survived, and what failed; equal failures are counted."""
    rows = ["| section | tried | survived | what failed |", "| --- | ---: | ---: | --- |"]
    for outcome in outcomes:
        counts = {failure: outcome.failures.count(failure) for failure in dict.fromkeys(outcome.failures)}
        shown = "; ".join(f"{count} × {failure}" if count > 1 else failure for failure, count in counts.items())
        survived = outcome.tried - len(outcome.failures)
        rows.append(f"| {outcome.section} | {outcome.tried} | {survived} | {shown or 'nothing'} |")
    return "\n".join([*rows, *(f"{outcome.section}: {note}" for outcome in outcomes for note in outcome.notes)])
