"""Conservative fine-tuning of the backbones: the live baseline, which no store can train."""

_base_ = "cmt_aqr_training.py"

optimizer = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            img_backbone=dict(lr_mult=0.01),
            pts_backbone=dict(lr_mult=0.05),
            pts_middle_encoder=dict(lr_mult=0.05),
        )
    )
)
