"""Machines that do the heavy work and know nothing of Prefect, so each also runs in an emergency."""
