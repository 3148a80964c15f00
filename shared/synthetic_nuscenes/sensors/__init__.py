"""What the cameras and the LiDAR record of the synthetic world.

May import world/.
"""
