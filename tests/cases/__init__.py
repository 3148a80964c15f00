"""Small inputs that are not what they seem: generators, each with the words that refuse it.

`python -m tests.cases OUT` writes all of them and prints what the commands say.
"""
