"""The vocabulary under every face: runs, events, the tree, the journal, and what they ask of the outside."""
