"""Measurements against the tools people know, as ratios taken in one run on one machine."""
