"""Moving weights: who sends what to whom, and in which round."""
