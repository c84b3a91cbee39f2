"""loomproxy: an edge proxy for apps and AI providers, in one file."""

__version__ = "0.1.0"
