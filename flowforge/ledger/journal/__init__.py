"""What is written down while a job runs, so that a kill at any line costs a turn at most.

Every function takes the engine first and is one transaction, mostly one statement. Every write of
an attempt carries its lease; an attempt that lost its job is refused at the next one (`Fenced`).
A write whose answer was lost (`Unavailable`) may be repeated: the second time changes nothing.
"""
