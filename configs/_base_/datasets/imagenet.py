# ImageNet-1k, unpacked as data/imagenet/{train,val}/<class>/*.JPEG. 8 GPUs x 128 = the total batch of 1024.
# Any data set with one folder per class fits: --cfg-options data_root=<folder> num_classes=<number>.
dataset_type = 'mmlocalmamba.ImageFolder'
data_root = 'data/imagenet'

train_pipeline = [
    dict(
        type='mmlocalmamba.TimmTransform',
        input_size=224,
        is_training=True,
        auto_augment='rand-m9-mstd0.5-inc1',
        re_prob=0.25,
    )
]
test_pipeline = [dict(type='mmlocalmamba.TimmTransform', input_size=224, is_training=False, crop_pct=0.875)]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix='val', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='mmlocalmamba.TopKAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
