"""The rehearsal model: an HTTP server that speaks the Messages API, without any model behind it.

Used where there is no key: on a laptop, in tests, in measurements. What it answers is a pure
function of the request, steered by a script in the prompt (see `script`), else by a few rules (see
`engineer`). Every reply is labelled: header `flowforge-rehearsal: 1`, ids `msg_rehearsal_...`.

Beside the API it takes orders at `/rehearsal/`: POST `faults`, `limits`, `reset`, GET `counters`;
the modules of these names say what is sent and what comes.
"""
