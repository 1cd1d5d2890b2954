"""The administration of a running factory: one router an area, described in OpenAPI.

Knows nothing about what it shows or changes beyond its shape.
"""
