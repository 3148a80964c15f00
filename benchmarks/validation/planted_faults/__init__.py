"""Would a test notice: small faults planted in the code, one at a time, and the tests run on it.

`lists/` holds the faults as data, a file per package. May import nothing but the standard library
and `benchmarks.console_scripts`: what is judged is a copy, never the code that judges.
"""
