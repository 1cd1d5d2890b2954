"""Writes a smaller model: plans how many bits a tensor gets, solves for them, judges the result.

Knows nothing about requests, kernels or the command line; computes with the reference executor.
"""
