"""Decoders of the dense tasks of TransNAS-Bench-101: segmentation and image translation."""

import flax.linen as nn
import jax

from lswag_jax import marks
from lswag_jax.spaces.convolution import convolve, double
from lswag_jax.spaces.layers import BatchNorm, torch_uniform

Array = jax.Array
SLOPE = 0.2  # of LeakyReLU


class DecoderConv(nn.Module):
    """3x3 convolution with bias, or the transposed one that doubles the resolution.

    Args:
        features: output channels.
        doubles: whether it is the transposed one.
    """

    features: int
    doubles: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `x` [B, H, W, I] to [B, H, W, O] or [B, 2 H, 2 W, O]."""
        # PyTorch takes the second axis of a kernel for its inputs, also where it is transposed.
        init = torch_uniform(9 * (self.features if self.doubles else x.shape[-1]))
        kernel = self.param("kernel", init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        # Marked whole, so that its input is the small map and not the one with zeros between.
        y = marks.layer(double if self.doubles else convolve, x, kernel)
        return y + bias.reshape(1, 1, 1, -1)


class Decoder(nn.Module):
    """Convolutions with BatchNorm and LeakyReLU, and one last convolution.

    Args:
        layers: output channels of each, and whether it doubles the resolution (`decoder_layers`).
        bounded: whether the output is that of tanh.
    """

    layers: tuple[tuple[int, bool], ...]
    bounded: bool

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Maps features [B, h, w, C] to a value for each pixel [B, H, W, outputs]."""
        for i, (features, doubles) in enumerate(self.layers):
            x = DecoderConv(features, doubles, name=f"conv_{i}")(x)
            if i < len(self.layers) - 1:
                x = nn.leaky_relu(BatchNorm(name=f"norm_{i}")(x, train), SLOPE)
        return nn.tanh(x) if self.bounded else x
