"""From text to objects: a file becomes a typed Config, a Config becomes a frozen snapshot."""
