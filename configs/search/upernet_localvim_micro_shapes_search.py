# Direction search on a segmentation task: the supernet of a micro LocalVim inside UperNet, on the generated demo data,
# with 2 of the 8 branches of each block computed per step. A pattern for one's own task.
# Total batch 8 (1 process x 8), 400 iterations, AdamW lr 1e-3 (alpha 1e-2), wd 0.05, drop path 0.0, seed 42.
# No published figure. Measured: 79.0 mIoU; the searched model, trained for as long from the exported weights, 80.2.
# See docs/search.md. Export afterwards:
#   python tools/search/export_directions.py configs/search/upernet_localvim_micro_shapes_search.py <checkpoint>
_base_ = ['../demo/upernet_localvim_micro_shapes.py']
candidates = ['h', 'h_flip', 'v', 'v_flip', 'w2', 'w2_flip', 'w7', 'w7_flip']
model = dict(backbone=dict(arch=dict(_delete_=True, embed_dim=64, depth=4, directions=[candidates] * 4), search=True))
# A short training moves alpha too little at the weights' rate: AdamW's steps are about as long as the rate.
optim_wrapper = dict(paramwise_cfg=dict(lr_mult={'merge.alpha': 10.0}))
custom_hooks = [
    dict(type='mmlocalmamba.DirectionSearchHook', interval=20, num_sampled=2),
    dict(type='mmlocalmamba.NonFiniteHook'),
]
