"""Complete freezing of the backbones, necks x0.05: the recipe `frozen_a`."""

_base_ = "cmt_aqr_training.py"

optimizer = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            img_backbone=dict(lr_mult=0.0),
            pts_voxel_encoder=dict(lr_mult=0.0),
            pts_middle_encoder=dict(lr_mult=0.0),
            pts_backbone=dict(lr_mult=0.0),
        )
    )
)
