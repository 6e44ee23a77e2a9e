"""Looking at runs of every kind: as plain values and drawings, why they stand as they do, and whether that can be."""
