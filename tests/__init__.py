"""The suite. Folders mirror the rooms; `e2e` starts the real server, `conformance` is for every
store and executor.
"""
