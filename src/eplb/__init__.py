"""`eplb`: expert-parallelism load balancing with a proven bound."""

from eplb.errors import EplbError
__all__=["EplbError"]
