"""Tells what happens and when: the clock, the log and the metrics.

Knows nothing about what it reports on.
"""
