"""What tests share: an origin to play upstream, raw clients, a load, the proxy as a process."""
