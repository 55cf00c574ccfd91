"""What every request passes and every answer leaves by: layers, errors, principals, streams.

It knows no route.
"""
