"""Counts tokens: by a server's own vocabulary, by a learnt ratio, or by bytes."""
