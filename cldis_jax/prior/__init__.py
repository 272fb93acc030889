"""The latent diffusion prior: a diffusion model of z_sem, from which new codes are drawn."""
