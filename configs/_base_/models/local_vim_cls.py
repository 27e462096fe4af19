model = dict(
    type='mmlocalmamba.ImageClassifier',
    data_preprocessor=dict(
        type='mmlocalmamba.ClassificationDataPreprocessor',
        num_classes=1000,
        mixup=0.2,
        cutmix=1.0,
        label_smoothing=0.1,
    ),
    backbone=dict(
        type='mmlocalmamba.LocalVim',
        arch='tiny',
        img_size=224,
        out_indices=(-1,),
        out_type='residual',
        out_norm=False,
        drop_path_rate=0.1,
    ),
    head=dict(type='mmlocalmamba.ClassificationHead', in_channels=192, num_classes=1000, norm='RMSNorm'),
)
