"""Chooses what a model's matrices are rounded to here: times, tries, decides and remembers.

Knows nothing about requests.
"""
