"""What each family of models is made of: one file of description a family.

Knows nothing about how a model is computed: executors compute whatever a `ModelConfig` says.
"""
