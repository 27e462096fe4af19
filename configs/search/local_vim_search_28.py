# Direction search over 28 candidates in every block, of which 2 are computed per step: h, v and windows of 2 to 13,
# each with its flip: all that differ on a map of 14 x 14 tokens. Our addition; no published figure.
_base_ = ['./local_vim_search_sampled.py']
candidates = [
    f'{path}{flip}' for path in ['h', 'v', *[f'w{window}' for window in range(2, 14)]] for flip in ('', '_flip')
]
model = dict(backbone=dict(arch=dict(embed_dim=128, depth=20, directions=[candidates] * 20)))
