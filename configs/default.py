"""Every config field and its meaning. The other configs set only the fields that differ.

[paper] marks a value that CL-Dis (arXiv 2402.02346, its abstract and framework figure) or Diff-AE (arXiv 2111.15640)
states. [choice] marks our decision where they leave the question open; the comment names the alternatives.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A complete config: the preset `paper` on rendered scenes of 64 px, with the network of Diff-AE's celeba64."""
    config = ConfigDict()
    config.preset = (
        "paper"  # paper | best: the preset in configs/closed_loop.py that the config starts from; only a label
    )
    config.profile_steps = ""  # "start-stop": steps to trace for TensorBoard's profiler, e.g. "100-105"
    config.init_from = ""  # workdir with the initial parameters of a new run, e.g. an imported Diff-AE

    config.data = ConfigDict()
    config.data.source = "scenes"  # scenes | sprites | folder | tfds | cars3d | mpi3d
    config.data.name = ""  # tfds: the data set's name, e.g. "celeb_a"; mpi3d: toy | realistic | real | complex
    config.data.path = ""  # folder: the root of the images, or a zip of them; cars3d, mpi3d: the published files
    config.data.split = ""  # folder: only a sub-folder, or train | valid | test of CelebA's list_eval_partition.txt
    config.data.cache = "auto"  # folder: where decoded images are kept; auto: ~/.cache/cldis_jax/images; empty: nowhere
    config.data.data_dir = ""  # tfds: the folder of the prepared sets (empty: TFDS's own default)
    config.data.crop = "center"  # center | d2c (CelebA: the 128x128 box centred at row 121, column 89)
    config.data.image_size = 64  # pixels per side, after crop and resize
    config.data.channels = 3  # 3, or 1 for grey and binary sets
    config.data.batch_size = 128  # global, over all hosts and devices
    config.data.flip = False  # random horizontal flips, on the device
    config.data.holdout = 0.0  # share of images held out from training, chosen by a fixed permutation
    config.data.holdout_split = ""  # folder: a part that is held out instead, as those of data.split, e.g. "test"
    config.data.holdout_pairs = ""  # two factors, e.g. "object_hue,shape": some of their combinations are held out, too
    config.data.threads = 2  # reader threads per host
    config.data.prefetch = 4  # batches read ahead

    config.model = ConfigDict()
    config.model.latent_dim = 10  # size of z_sem and z_disen [choice: equal; 10 to 32]
    config.model.embed_dim = 512  # width of the time embedding
    config.model.base_channels = 64
    config.model.channel_multipliers = (1, 2, 4, 8)  # U-Net: one level per entry; the resolution halves between levels
    config.model.encoder_multipliers = (1, 2, 4, 8, 8)  # semantic encoder
    config.model.num_res_blocks = 2  # per level; the U-Net's decoder has one more
    config.model.attention_resolutions = (16,)  # feature-map sides with self-attention (the middle always has it)
    config.model.dropout = 0.1  # U-Net only
    config.model.conditioning = "adagn"  # adagn [paper: Diff-AE] | cross_attention [choice, after EncDiff]
    config.model.token_dim = 16  # cross_attention: width of a token; each scalar of z becomes one token
    config.model.cross_attention_side = 16  # cross_attention: in the middle and at feature maps of at most this side
    config.model.encoder = "unet"  # E_sem. unet: half a U-Net [paper: Diff-AE] | strided: as the VAE's [choice]
    config.model.standardize_z_sem = False  # initialise E_sem's head so that z_sem has mean 0, variance 1 [choice]
    config.model.patch_size = 1  # p > 1: p x p pixels become channels before the stem and after the head
    config.model.narrow_groups = False  # True: no group of a single channel [choice]; False: Diff-AE's 32 groups
    config.model.remat = False  # recompute each residual block in the backward pass: less memory, more time

    config.diffusion = ConfigDict()
    config.diffusion.weight = 1.0  # lambda_diff; 0: no Diff-AE (beta-VAE alone)
    config.diffusion.prediction = "eps"  # eps [paper: Diff-AE] | v | x0: x_0 through a skip connection [choice]
    config.diffusion.skip_std = 0.1  # x0 only: below this ratio noise / signal the network predicts noise
    config.diffusion.num_steps = 1000
    config.diffusion.beta_start = 1e-4  # linear schedule
    config.diffusion.beta_end = 2e-2
    config.diffusion.decode_steps = 20  # DDIM steps of the pictures in training; the default of `edit` and `sample`

    config.vae = ConfigDict()
    config.vae.weight = 1.0  # lambda_vae: 1 is the sum over pixels; 0: no VAE (Diff-AE alone)
    config.vae.beta = 4.0
    # absolute [paper]: beta |KL - C|. hinge [choice]: beta relu(KL - C) + beta_min KL
    config.vae.capacity_form = "absolute"
    config.vae.beta_min = 1.0  # hinge only
    config.vae.antithetic = False  # decode mu - sigma eps too, which makes the gradient less noisy [choice]
    config.vae.base_channels = 32  # 32, 32, 64, 64, ... of the standard four-convolution networks
    config.vae.hidden_dim = 256

    config.distillation = ConfigDict()
    config.distillation.weight = 1e-3  # lambda_dt; 0: no distillation
    config.distillation.form = "kl"  # kl | mse | softmax [choice]
    config.distillation.schedule = "constant"  # constant | adaptive: scaled by the teacher's KL / C_max
    config.distillation.sigma_floor = 0.1  # kl: the variance is sigma^2 + sigma_floor^2
    config.distillation.weigh_units = False  # kl, mse: weight of a unit = the teacher's KL, at most 1 nat [choice]
    config.distillation.listen_steps = 0  # in the first listen_steps steps only L_dt trains z_sem [choice: 0]
    config.distillation.listen_weight = 1e-3  # lambda_dt in those steps [choice]
    config.distillation.teacher_gradient = False  # True: L_dt also moves mu towards z_sem

    config.independence = ConfigDict()
    config.independence.weight = 0.0  # lambda_ind: how much any two units of z_sem must be independent [choice: 0]
    config.independence.form = "cosines"  # cosines | negentropy [choice]

    config.feedback = ConfigDict()
    config.feedback.mode = "progress"  # timestep | progress | gain (closed loop) | anneal | fixed (open loop) [choice]
    config.feedback.max_capacity = 25.0  # C_max, nats
    config.feedback.lead_capacity = 0.0  # C_lead, nats: C at the start
    config.feedback.ema_decay = 0.99  # of the averaged signals and of L_ind, per step (gain: ema_decay ** every)
    config.feedback.reference = 1.0  # the signal's value at which C reaches C_max
    config.feedback.anneal_steps = 100_000  # anneal: steps from C_lead to C_max
    config.feedback.every = 10  # gain: steps between measurements
    config.feedback.probe_size = 16  # gain: samples per measurement
    config.feedback.encode_noisy = False  # the VAE encodes x_t instead of x_0
    config.feedback.swap_probability = 0.0  # probability that z_disen replaces z_sem in a sample [choice: 0]
    config.feedback.swap_steps = 0  # swap only in the first steps (0: in all)

    config.train = ConfigDict()
    config.train.steps = 500_000
    config.train.seed = 0
    config.train.learning_rate = 1e-4  # Adam [paper: Diff-AE]; the small networks of small_images.py: 1e-3
    config.train.decay_share = 0.0  # share of the steps, at the end, in which the rate falls to 0 [Diff-AE: constant]
    config.train.clip_norm = 1.0
    config.train.clip_scope = "branch"  # branch: the norm of each network | global: one norm over all [Diff-AE]
    config.train.ema_decay = 0.9999
    config.train.precision = "auto"  # activations: auto (bfloat16 on accelerators, float32 on CPU) | float32 | bfloat16
    config.train.steps_per_dispatch = 1  # optimiser steps in one jitted call (lax.scan); above 1 slow on CPU
    config.train.accumulate = 1  # micro-batches whose gradients are averaged in one step; above 1 slow on CPU
    config.train.log_every = 100
    config.train.picture_every = 5_000
    config.train.num_pictures = 8
    config.train.wandb = ""  # project of Weights & Biases that gets scalars and pictures too; WANDB_MODE=offline works

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1_000
    config.checkpoint.keep = 3  # the latest checkpoints
    config.checkpoint.keep_period = 0  # also keep every checkpoint at a multiple of this step (0: none)

    config.sharding = ConfigDict()
    config.sharding.mesh = ConfigDict({"data": -1, "fsdp": -1})  # devices along each axis (docs/training.md)
    config.sharding.fsdp_min_bytes = 2**20  # smaller arrays are replicated
    return config
