"""What Triton kernels compute on rows of channels."""

# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def logistic(x):
    """Compute 1 / (1 + exp(-x))."""
    return 1 / (1 + tl.exp(-x))


@triton.jit
def silu(x):
    """Compute x times its logistic function."""
    return x * logistic(x)


@triton.jit
def silu_slope(x):
    """Compute the derivative of SiLU."""
    s = logistic(x)
    return s * (1 + x * (1 - s))


@triton.jit
def gelu(x):
    """Compute x times the normal distribution function, exactly."""
    return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))


@triton.jit
def centre(x, inside, dim, AXIS: tl.constexpr):
    """Subtract the mean of each row of ``dim`` channels; what is outside of a row holds zero before and after."""
    return tl.where(inside, x - tl.sum(x, AXIS, keep_dims=True) / dim, 0)


@triton.jit
def reciprocal_root(x, dim, EPS: tl.constexpr, AXIS: tl.constexpr):
    """Compute 1 / sqrt(mean of x^2 + eps) of each row of ``dim`` channels."""
    return 1 / tl.sqrt(tl.sum(x * x, AXIS, keep_dims=True) / dim + EPS)


@triton.jit
def token_at(order, step, length, num_tokens):
    """Give the token of a step, -1 for padding.

    What is before the start or past the end, or names a token that there is not, counts as padding: no load or store
    that follows can leave its tensor, whatever the order holds.
    """
    token = tl.load(order + step, mask=(step >= 0) & (step < length), other=-1)
    return tl.where((token >= 0) & (token < num_tokens), token, -1)
