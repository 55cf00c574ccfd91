"""Agents: the host that speaks with an agent, and an agent that needs no model.

Both are programs of their own, started by an executor. No module of the server imports them.
"""
