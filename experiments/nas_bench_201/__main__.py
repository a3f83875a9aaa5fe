"""Searches in NAS-Bench-201: `python -m experiments.nas_bench_201 run --scale=tiny`."""

from experiments.nas_bench_201.program import main

if __name__ == '__main__':
  main()
