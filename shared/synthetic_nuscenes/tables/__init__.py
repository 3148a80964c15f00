"""The nuScenes tables that describe the recordings of the synthetic world.

May import world/ and sensors/.
"""
