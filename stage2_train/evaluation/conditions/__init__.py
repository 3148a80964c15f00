"""One detector judged under many conditions, at the end of a run and while it trains.

Promises the published definitions of RA, mRA, RRA and mRRA, and that a table says what is missing
in it. May import the rest of evaluation/, which does not import it, and data/.
"""
