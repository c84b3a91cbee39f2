"""Random worlds for the exchange: no sockets, one thread, everything from one seed.

Several exchanges share real pools, routes and snapshots. Around each of them stand a model of its
client, of its upstream and of the shell that performs its commands. After each step the checkers
look whether a rule of `loomproxy.core.exchange` was broken. A seed and a commit are the bug again.
"""
