"""One module per topic family, and the table of routes (`roles.py`).

A handler reads as a list of verbs: load, decide, write. It returns what to publish and can't
publish by itself.
"""
