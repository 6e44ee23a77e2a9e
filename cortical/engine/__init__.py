"""Where driven work is carried out: threads and an event loop on this machine, under a lease on the tree."""
