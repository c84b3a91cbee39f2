"""What loomproxy costs and holds under load, beside other proxies, on one machine.

Nothing here ships: the package is run from the source tree by the executables beside it
(`compare`, `memory`, `run-locust`). It needs only the standard library, so that any Python 3.11
can run it; the tools it drives (nginx, wrk, HAProxy, Envoy, locust) are looked for when needed.
"""
