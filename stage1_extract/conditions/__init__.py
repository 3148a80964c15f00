"""Bad sensors: deterministic changes of raw nuScenes data, before any backbone sees it.

`condition` says what a condition is, `apply_condition` applies one and checks what its functions
return; lidar/, camera/ and catalogue/ hold our own. May import nuscenes/.
"""
