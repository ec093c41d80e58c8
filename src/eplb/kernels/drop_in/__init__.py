"""DeepSeek's algorithm to the last bit, and the published improvement of its replication."""
