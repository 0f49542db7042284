"""The library under FlowForge's flows: what it knows, without Prefect."""
