"""The edge: what every request and answer passes. Layers, errors, principals, streams.

It knows no route.
"""
