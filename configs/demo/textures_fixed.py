# A micro LocalVim with horizontal scans only, on generated textures whose classes differ along columns only.
# Total batch 32, 5 epochs, AdamW lr 5e-3, no weight decay, no drop path, seed 0.
# Measured with tools/search/demo.py, 21 s on one CPU core: top-1 over seeds 0 to 4, where chance is 50 %. This model:
# 44.1 to 67.2 (49.4 with seed 0). The supernet of textures_search.py: 99.2 to 100.0. The two directions that it chose
# per block: 99.0 to 100.0; they were v and v_flip in 9 of 10 blocks, and h and v_flip in one.
model = dict(
    type='mmlocalmamba.ImageClassifier',
    data_preprocessor=dict(type='mmlocalmamba.ClassificationDataPreprocessor', num_classes=2),
    backbone=dict(
        type='mmlocalmamba.LocalVim',
        arch=dict(embed_dim=16, depth=2, directions=[['h', 'h_flip']] * 2),
        img_size=8,
        patch_size=1,
        in_channels=1,
        out_indices=(-1,),
        out_type='residual',
        out_norm=False,
        d_state=4,
    ),
    head=dict(type='mmlocalmamba.ClassificationHead', in_channels=16, num_classes=2, norm='RMSNorm'),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmlocalmamba.DirectionTextures', axis='v', order=0.7, num_images=1024, seed=0),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmlocalmamba.DirectionTextures', axis='v', order=0.7, num_images=512, seed=1, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmlocalmamba.TopKAccuracy', topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-3, weight_decay=0.0), clip_grad=dict(max_norm=5.0)
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=5, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_scope = 'mmengine'
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=16),
    checkpoint=dict(type='mmlocalmamba.AtomicCheckpointHook', interval=5, max_keep_ckpts=1),
    resume=dict(type='mmlocalmamba.ResumeHook'),
)
randomness = dict(seed=0)
