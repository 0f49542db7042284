"""Machines that do the heavy work and know nothing of Prefect: each also runs in an emergency."""
