"""The local world that stands in for a company's systems, so every operation can be rehearsed."""
