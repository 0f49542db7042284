"""Steps that touch the world, as Prefect sees them: one system a file."""
