"""Functions of one system each: a module per system, found by its name.

`zoom.delete_user` stands in `zoom.py` here, whose `FUNCTIONS` maps the names of its functions, each `zoom.` and a word, to
their classes. Nothing lists these modules: `agent.functions.registry` looks for them.
"""
