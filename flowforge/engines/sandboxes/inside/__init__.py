"""The program that runs inside a sandbox. It needs Python and nothing else.

It is started without site packages, environment or the rest of FlowForge, so that nothing of the
brain is in the memory that hostile commands are forked from.
"""
