"""Joins each application with the parts that it needs: one file for each application, imported at
its first request. It belongs to the composition root, and reads settings as that does.
"""
