"""Guests: provider plugins on this host. Node and command line use this room, workers never do.

Nothing is imported here, so that `loomproxy.plugins.sdk` brings a guest nothing but itself.
"""
