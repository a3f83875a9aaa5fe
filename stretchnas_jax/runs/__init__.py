"""One run in one folder: plan, programs, loop, checkpoints, metrics, loading, export."""
