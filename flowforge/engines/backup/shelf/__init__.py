"""The copies of a store together: listed, held, renamed, brought elsewhere, forgotten."""
