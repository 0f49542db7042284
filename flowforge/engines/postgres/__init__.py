"""PostgreSQL as programs on a disk: which are here, and servers run from them."""
