"""From a database to one object: a snapshot, the rows and definitions in it, packed as members."""
