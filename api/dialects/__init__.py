"""APIs of others: each an application of its own over the same log, whole in its folder."""

GITOMA, CODEPLANE, BOARD = "gitoma", "codeplane", "board"
DIALECTS = (GITOMA, CODEPLANE, BOARD)
