"""Windows around the queries, and a bias inside them: what all ways to attend work from.

May import geometry/.
"""
