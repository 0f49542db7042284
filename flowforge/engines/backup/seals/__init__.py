"""Who can open a copy: seals to recovery keys, and their rotation."""
