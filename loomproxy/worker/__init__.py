"""The data plane: one event loop that carries traffic, and decides nothing."""
