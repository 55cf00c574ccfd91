"""How each application is joined with the parts that it needs: one file an application, imported
when that is asked for. The composition root's own rooms: they read settings as it does.
"""
