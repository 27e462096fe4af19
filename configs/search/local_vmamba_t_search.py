# Direction search for LocalVMamba-T on ImageNet-1k (paper 4.2): all 8 candidates in every block,
# dims 32, 64, 128, 256. Not reproduced here; the published outcome is mmlocalmamba/directions/published.json.
# Total batch 1024 (8 GPUs x 128), 100 epochs, AdamW lr 1e-3, wd 0.05, drop path 0.0, seed 42, no EMA;
# 4.6 M parameters. Export afterwards:
#   python tools/search/export_directions.py configs/search/local_vmamba_t_search.py <checkpoint> \
#       --target configs/imagenet/local_vmamba_t.py
_base_ = [
    '../_base_/models/local_vmamba_cls.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_search_100e.py',
    '../_base_/imagenet_runtime.py',
]
candidates = ['h', 'h_flip', 'v', 'v_flip', 'w2', 'w2_flip', 'w7', 'w7_flip']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, dims=[32, 64, 128, 256], depths=[2, 2, 9, 2], directions=[candidates] * 15),
        search=True,
        drop_path_rate=0.0,
    ),
    head=dict(in_channels=256),
)
custom_hooks = [dict(type='mmlocalmamba.DirectionSearchHook', interval=500), dict(type='mmlocalmamba.NonFiniteHook')]
