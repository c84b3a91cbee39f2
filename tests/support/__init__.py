"""What tests share: an origin to play upstream, raw clients, a steady load, and the proxy as a process."""
