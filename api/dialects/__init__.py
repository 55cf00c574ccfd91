"""The published APIs of others. Each is an application of its own over the same log, in its
own folder.
"""

GITOMA, CODEPLANE, BOARD = "gitoma", "codeplane", "board"
DIALECTS = (GITOMA, CODEPLANE, BOARD)
