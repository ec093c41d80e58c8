"""The exact weighted split of tokens over replicas, and the search for placements that are made for it."""
