"""CL-Dis in JAX: a diffusion autoencoder and a beta-VAE, disentangling in a closed loop."""
