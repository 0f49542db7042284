"""Whether a copy is what was dumped: read back, restored, compared, asked."""
