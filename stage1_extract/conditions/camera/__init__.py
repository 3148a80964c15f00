"""What conditions do to images and calibration. May import nuscenes/ and the folder above."""
