"""Four processes on one store, killed, stopped and out of disk at random; then everything is checked.

``python -m tests.soak --seconds 600 --seed 7`` does it for as long as it is told.
"""
