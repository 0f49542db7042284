"""Places where commands run that a model chose, and nothing else."""
