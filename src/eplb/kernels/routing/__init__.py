"""From the experts of tokens to slots: counting, quotas, and handing replicas out."""
