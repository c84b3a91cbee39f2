"""What should happen: pure, synchronous, deterministic decisions.

Nothing below this package opens a socket, reads a clock, rolls dice, touches a file or writes a
log. Time (`now`) and randomness come in as arguments, so that every decision can be read, tested,
fuzzed and simulated on its own.
"""
