"""A copy in the place of something live: beside it, compared, swapped, and the old one kept."""
