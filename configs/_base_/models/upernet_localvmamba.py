_base_ = ['./upernet.py']
model = dict(
    backbone=dict(type='mmlocalmamba.LocalVMamba', arch='tiny', drop_path_rate=0.2, padding='skip'),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384, in_index=2),
)
