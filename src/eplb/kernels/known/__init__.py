"""Planning loads that are known: replicas, packing, refinement, and bounds."""
