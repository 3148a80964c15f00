"""The nuScenes tables of a recorded synthetic world.

May import world/ and sensors/.
"""
