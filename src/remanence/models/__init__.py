"""Language models: which one, where, at what price, and how our parts become a provider's messages and back.

Nothing is imported here: the libraries behind `bridge.py` take more than a second to load, and most commands of the
command line never call a model.
"""
