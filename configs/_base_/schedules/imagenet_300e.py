# 300 epochs: AdamW 1e-3 at a total batch of 1024, 20 epochs of linear warm-up, cosine (paper 5.1).
# On n GPUs accumulate 8 / n batches of 128, and average as rarely: 1 GPU x 128 x 8 is --cfg-options
# optim_wrapper.accumulative_counts=8 custom_hooks.0.interval=8 (a search, which has no EMA, without the latter). The
# learning rate stays as it is. Otherwise --auto-scale-lr scales it to the smaller batch, blind to accumulation.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    accumulative_counts=1,
    constructor='mmlocalmamba.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=300, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=1024)
