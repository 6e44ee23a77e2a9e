"""Programs to run and to read. Each is a file of its own: ``python examples/nested_loop_demo.py``."""
