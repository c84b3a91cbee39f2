"""Every fault at every event between loomproxy and its upstream, and what may come of it.

`scenes` says what is asked and what must come back, `client` asks and tells strictly what it got,
`matrix` runs each case on a lane of its own, `judge` compares, `theatre` sets it all up. The faults
are the meddler's (`tests.support.meddler`). `python -m tests.faults --scene upload --fault cut`
runs a part of it.
"""
