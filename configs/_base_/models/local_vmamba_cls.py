model = dict(
    type='mmlocalmamba.ImageClassifier',
    data_preprocessor=dict(
        type='mmlocalmamba.ClassificationDataPreprocessor',
        num_classes=1000,
        mixup=0.2,
        cutmix=1.0,
        label_smoothing=0.1,
    ),
    backbone=dict(type='mmlocalmamba.LocalVMamba', arch='tiny', out_indices=(3,), out_norm=False, drop_path_rate=0.2),
    head=dict(type='mmlocalmamba.ClassificationHead', in_channels=768, num_classes=1000, norm='LN'),
)
