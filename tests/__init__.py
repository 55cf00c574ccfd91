"""The suite. Folders mirror the rooms. `e2e` starts the real server; `conformance` tests every
store and executor.
"""
