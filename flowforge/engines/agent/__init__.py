"""The brain of an agent job: one turn after the other, each written down before it counts."""
