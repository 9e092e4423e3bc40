"""Side-by-side speed measurements: `make bench`, or `make bench ONLY=name,name`.

To add a bar, write a function without arguments that returns a `Measurement` (or raises `NotMeasured` with the reason),
wrap it in a `Bar`, and put that into the list `BARS` of `bench/training.py`, `bench/real_towers.py` or
`bench/evaluation.py`. Time two things against each other with `clock.compare`: one thread, interleaved A B B A, ratio
of the minima, a matrix product before and after. An earlier commit's step beside ours is `builds.faster_than_past`.
What is counted and not timed is a `Measurement` without `quiet`. Everything else (printing, `bench/results.json`, the
table in `docs/performance.md`) follows from the record. What needs a GPU stands apart, in `python -m bench.gpu`.
"""
