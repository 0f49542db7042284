"""Where flows run: pools as data, and how a run starts in each kind of pool."""
