"""Says what this machine has: processors, memory, accelerators, and what they are measured to do.

Knows nothing about models, kernels or what the machine is used for. Everything is read below a
root folder, so that a test can bring a machine of its own.
"""
