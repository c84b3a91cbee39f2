"""Agreement between hosts: who is there, who leads, what is published. Of node and cli only."""
