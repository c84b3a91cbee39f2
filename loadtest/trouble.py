"""The one thing that ends a measurement early, in words for whoever started it."""


class Trouble(Exception):
    """A measurement cannot go on: says where, what was seen, what was expected, what to do."""
