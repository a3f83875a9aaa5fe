"""Searches in NAS-Bench-201, whose cells others have trained: a table without a training of ours.

    python -m experiments.nas_bench_201 run --scale=tiny

`rows` has the methods, `scales` the sizes, `plan` the commands, `lines` what is kept of a search.
"""
