"""The laptop platform: FlowForge's processes on loopback, set up as an operator would.

It imports neither Prefect nor a flow. `supervisor` keeps processes, `startup` sets the platform
up around it, `tour` runs every operation once.
"""
