"""Where models come from: a package index, the Hugging Face Hub, this machine's own files.

Knows nothing about the library that keeps them, and never runs or installs what it fetches.
"""
