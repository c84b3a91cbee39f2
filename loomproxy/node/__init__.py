"""The control plane.

Owns the sockets, supervises the workers, publishes, drains, answers operators.
"""
