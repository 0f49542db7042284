"""Prefect's server inside FlowForge's shell: one application on three sockets.

`python -m flowforge.server` starts it. The API and the UI answer on both the API's and the UI's
port, so a browser needs one origin only; the metrics port answers `/metrics` and nothing else.
"""
