"""What works when everything else is gone: Prefect, its server, the ledger, the saved systems.

Everything it needs is given on the command line, in the environment or on standard input: where the
store is, how to enter a server, which key opens the copies. It reads the store, which is the truth
about copies, and runs the same rules and the same engines as the flows do.
"""
