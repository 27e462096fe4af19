# Semantic masks of images of 13 bands and 16 bits. Generated:
# python tools/make_demo_data.py data/multispectral --bands 13. Your own data: change data_root, metainfo and channels.
# Shapes that are almost wholly covered have label 0, which is ignored.
data_root = 'data/multispectral/ade-like'
metainfo = dict(
    classes=('background', 'disc', 'square', 'triangle', 'star', 'ring', 'cross'),
    palette=[
        [120, 120, 120],
        [220, 20, 60],
        [230, 190, 0],
        [0, 150, 60],
        [0, 170, 200],
        [60, 80, 220],
        [200, 0, 200],
    ],
)
crop_size = (512, 512)
train_pipeline = [
    dict(type='mmlocalmamba.LoadMultispectralImage', channels=13),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(512, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='mmlocalmamba.LoadMultispectralImage', channels=13),
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='mmlocalmamba.LoadMultispectralImage', channels=13),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (384, 512, 640)],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='LoadAnnotations', reduce_zero_label=True)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        img_suffix='.tif',
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        img_suffix='.tif',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
