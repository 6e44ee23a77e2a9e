"""What it costs, beside the least it could cost, measured in one run: ``python -m benchmarks [GROUP …]``."""
