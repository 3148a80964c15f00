"""One detector judged under many conditions: what they are, relative scores, tables.

Promises the published definitions of RA, mRA, RRA and mRRA, and that a table says what is missing
in it. May import the rest of evaluation/, and data/.
"""
