"""The compiled hot loops: arrays in, arrays out; no validation, no logging.

Nothing here is imported before the first plan: importing this package imports numba.
"""
