"""What conditions do to LiDAR points. May import nuscenes/ and the folder above."""
