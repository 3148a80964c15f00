"""Complete freezing of the backbones, necks x0.1: the recipe `frozen_b`."""

_base_ = "frozen_a.py"

optimizer = dict(
    paramwise_cfg=dict(custom_keys=dict(img_neck=dict(lr_mult=0.1), pts_neck=dict(lr_mult=0.1)))
)
