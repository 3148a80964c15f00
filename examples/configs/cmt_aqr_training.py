"""Training of CMT with AQR as a config of mmcv 1.x: what the three strategies share.

It says how to train, not what the detector is; `train-stage2 --config` reads one of its children.
"""

shapes = dict(bev_feature_shape=(128, 128), pers_feature_shape=(6, 20, 50))

weight_encoder = dict(
    type="PETRTransformerDecoder",
    num_layers=1,
    return_intermediate=True,
    transformerlayers=dict(
        type="PETRTransformerDecoderLayer",
        attn_cfgs=[dict(type="MultiheadAttention", embed_dims=256, num_heads=4, dropout=0.1)],
        ffn_cfgs=dict(type="FFN", embed_dims=256, feedforward_channels=1024, ffn_drop=0.1),
        operation_order=("cross_attn", "norm", "ffn", "norm"),
    ),
)

model = dict(
    pts_bbox_head=dict(
        enable_aqr=True,
        aqr_config=dict(
            embed_dims=256, window_sizes=[8, 5], encoder_config=weight_encoder, **shapes
        ),
        attention_bias_config=dict(
            type="AttentionBiasGenerator",
            window_size=8,
            bias_scale=2.5,
            learnable_scale=True,
            min_scale=0.5,
            max_scale=5.0,
            use_local_bias=True,
            **shapes,
        ),
    )
)

data = dict(
    samples_per_gpu=2,
    train=dict(
        type="CBGSDataset",
        dataset=dict(
            type="CustomNuScenesDataset", pipeline=[dict(type="ModalMask3D", mode="train")]
        ),
    ),
)

optimizer = dict(
    type="AdamW",
    lr=1.4e-4,
    weight_decay=0.01,
    paramwise_cfg=dict(
        custom_keys={
            "img_neck": dict(lr_mult=0.05),
            "pts_neck": dict(lr_mult=0.05),
            "transformer": dict(lr_mult=0.5),
            "bev_embedding": dict(lr_mult=0.5),
            "rv_embedding": dict(lr_mult=0.5),
            "reference_points": dict(lr_mult=0.3),
            "task_heads": dict(lr_mult=0.8),
            "shared_conv": dict(lr_mult=0.5),
            "aqr_weight_generator": dict(lr_mult=1.0),
            "attention_bias_generator": dict(lr_mult=1.0),
            "attention_bias_generator.bias_scale": dict(lr_mult=0.5),
        }
    ),
)
optimizer_config = dict(type="CustomFp16OptimizerHook", grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy="cyclic", target_ratio=(6, 1e-4), cyclic_times=1, step_ratio_up=0.4)
total_epochs = 20
