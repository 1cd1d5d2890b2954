"""Tokenworks: an open AI factory in one package.

Importing it costs nothing and starts nothing: every capability lives in its own sub-package.
"""

__version__ = "0.1.0"
