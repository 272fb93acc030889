"""PyTorch modules with the module names and the layout of the reference Diff-AE, to test the importer."""

import math

import torch
from torch import nn


def sinusoids(t, dim):
    frequencies = 10_000.0 ** (-torch.arange(dim // 2) / (dim // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def resized(x, resize):
    if resize == "up":
        return nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    return nn.functional.avg_pool2d(x, 2) if resize == "down" else x


class Res(nn.Module):
    """A residual block. With embed = 0 it is the block of the encoder, which has one convolution."""

    def __init__(self, inputs, outputs, embed=0, latent=0, resize=None):
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        if embed:
            self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed, 2 * outputs))
            self.cond_emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(latent, outputs))
            self.out_layers = nn.Sequential(
                nn.GroupNorm(32, outputs), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(outputs, outputs, 3, padding=1)
            )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, temb=None, z=None):
        norm, act, conv = self.in_layers
        h = conv(resized(act(norm(x)), self.resize))
        if temb is not None:
            scale, shift = self.emb_layers(temb)[:, :, None, None].chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[1:](h * (1 + self.cond_emb_layers(z)[:, :, None, None]))
        return self.skip_connection(resized(x, self.resize)) + h


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, *_):
        flat = x.flatten(2)
        q, k, v = self.qkv(self.norm(flat)).chunk(3, dim=1)
        weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), dim=-1)
        return x + self.proj_out(v @ weights.transpose(1, 2)).view_as(x)


class Block(nn.Sequential):
    def forward(self, x, temb=None, z=None):
        for module in self:
            x = module(x) if isinstance(module, nn.Conv2d) else module(x, temb, z)
        return x


def half_unet(config, multipliers, res):
    """(input_blocks, middle_block, skips' channels, channels at the end) of a U-Net's first half."""
    m, side = config.model, config.data.image_size
    channels = m.base_channels
    blocks, skips = [Block(nn.Conv2d(config.data.channels, channels, 3, padding=1))], [channels]
    for i, multiplier in enumerate(multipliers):
        for _ in range(m.num_res_blocks):
            layers = [res(channels, multiplier * m.base_channels)]
            channels = multiplier * m.base_channels
            if side in m.attention_resolutions:
                layers.append(Attention(channels))
            blocks.append(Block(*layers))
            skips.append(channels)
        if i < len(multipliers) - 1:
            blocks.append(Block(res(channels, channels, resize="down")))
            skips.append(channels)
            side //= 2
    middle = Block(res(channels, channels), Attention(channels), res(channels, channels))
    return nn.ModuleList(blocks), middle, skips, channels


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_blocks, self.middle_block, _, channels = half_unet(config, config.model.encoder_multipliers, Res)
        self.out = nn.Sequential(
            nn.GroupNorm(32, channels),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, config.model.latent_dim, 1),
            nn.Flatten(),
        )

    def forward(self, x):
        for block in self.input_blocks:
            x = block(x)
        return self.out(self.middle_block(x))


class LatentLayer(nn.Module):
    def __init__(self, inputs, outputs, embed):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        if embed:
            self.linear_emb = nn.Linear(embed, outputs)
            self.cond_layers = nn.Sequential(nn.SiLU(), self.linear_emb)
            self.norm = nn.LayerNorm(outputs)

    def forward(self, x, temb):
        if not hasattr(self, "norm"):
            return self.linear(x)
        return nn.functional.silu(self.norm(self.linear(x) * (1 + self.cond_layers(temb))))


class LatentNet(nn.Module):
    def __init__(self, latent, hidden, embed, num_layers):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(64, embed), nn.SiLU(), nn.Linear(embed, embed))
        sizes = [(latent, hidden, embed)] + [(hidden + latent, hidden, embed)] * (num_layers - 2)
        self.layers = nn.ModuleList(LatentLayer(*size) for size in [*sizes, (hidden + latent, latent, 0)])

    def forward(self, z, t):
        temb, h = self.time_embed(sinusoids(t, 64)), z
        for i, layer in enumerate(self.layers):
            h = layer(torch.cat([h, z], dim=1) if i else h, temb)
        return h


class TimeEmbed(nn.Module):
    def __init__(self, inputs, embed):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(inputs, embed), nn.SiLU(), nn.Linear(embed, embed))


class DiffAE(nn.Module):
    """The U-Net. As in the reference, it contains the semantic encoder (and the latent net)."""

    def __init__(self, config, latent_net=None):
        super().__init__()
        m = config.model

        def res(inputs, outputs, resize=None):
            return Res(inputs, outputs, m.embed_dim, m.latent_dim, resize)

        self.time_embed = TimeEmbed(m.base_channels, m.embed_dim)
        self.input_blocks, self.middle_block, skips, channels = half_unet(config, m.channel_multipliers, res)
        blocks = []
        for i, multiplier in reversed(list(enumerate(m.channel_multipliers))):
            for j in range(m.num_res_blocks + 1):
                layers = [res(channels + skips.pop(), multiplier * m.base_channels)]
                channels = multiplier * m.base_channels
                if config.data.image_size // 2**i in m.attention_resolutions:
                    layers.append(Attention(channels))
                if i and j == m.num_res_blocks:
                    layers.append(res(channels, channels, "up"))
                blocks.append(Block(*layers))
        self.output_blocks = nn.ModuleList(blocks)
        self.out = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, config.data.channels, 3, padding=1)
        )
        self.encoder = Encoder(config)
        if latent_net is not None:
            self.latent_net = latent_net
        self.base_channels = m.base_channels

    def forward(self, x, t, z):
        temb = self.time_embed.time_embed(sinusoids(t, self.base_channels))
        skips = []
        for block in self.input_blocks:
            x = block(x, temb, z)
            skips.append(x)
        x = self.middle_block(x, temb, z)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), temb, z)
        return self.out(x)


def randomise(module, seed):
    """Make every parameter random, also those that start at zero, with a scale that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / math.sqrt(parameter[0].numel()))
            else:
                parameter.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
    return module.eval()
