"""CL-Dis on small images: what the configs of such sets share, 64 px on one GPU, or 32 px and a small net on a laptop.

    python -m cldis_jax.main --config=configs/small_images.py:cpu --config.data.source=SOURCE --workdir=DIR

Networks, prices and times were found on rendered scenes (docs/study_cpu, docs/study_long).
"""

from ml_collections import ConfigDict

from cldis_jax.configs import default


def get_config(size: str = "full") -> ConfigDict:
    """The run at one size: full | long (cpu, thrice as long) | cpu | tiny."""
    config = default.get_config()
    config.data.batch_size = 64
    config.diffusion.prediction = "v"
    config.vae.capacity_form = "hinge"
    config.vae.beta = 64.0  # the prices of `cpu` for four times the pixels
    config.vae.beta_min = 8.0
    config.vae.antithetic = True  # else the third hue may never wake
    config.feedback.mode = "gain"
    config.feedback.lead_capacity = 2.0
    config.feedback.max_capacity = 14.0
    config.feedback.reference = 1.5  # slow enough for one hue after the other to take a unit
    side, channels = config.data.get_oneway_ref("image_size"), config.data.get_oneway_ref("channels")
    config.vae.weight = 1 / (side * side * channels).to_float()  # a mean over pixels, as L_diff is
    config.distillation.weight = 3e-4
    config.distillation.listen_steps = 30_000  # else z_sem learns in units of its own what z_disen says later
    config.distillation.weigh_units = True  # else z_sem has no unit left for what z_disen leaves out
    config.model.standardize_z_sem = True  # nor one that the denoiser would hear
    config.train.steps = 100_000
    config.train.ema_decay = 0.999
    config.model.conditioning = "cross_attention"  # the paper's AdaGN: two thirds of the DCI (docs/study_cpu)
    config.model.embed_dim = 256
    config.model.channel_multipliers = (1, 2, 2, 4)
    config.model.encoder_multipliers = (1, 2, 2, 4, 4)
    if size == "full":
        return config

    config.data.image_size = 32
    config.data.batch_size = 16
    config.model.patch_size = 4
    config.model.num_res_blocks = 1
    config.model.base_channels = 48  # as many as a patch has values: v-prediction passes the noise through
    config.model.narrow_groups = True
    config.model.embed_dim = 64
    config.model.channel_multipliers = (1,)
    config.model.encoder_multipliers = (1, 1)
    config.model.attention_resolutions = (8,)
    config.model.dropout = 0.0
    config.train.learning_rate = 1e-3
    config.train.ema_decay = 0.99
    config.vae.beta = 16.0  # while C binds, one unit opens after the other
    config.vae.beta_min = 2.0  # at 1 or less a hue may fill two units, at 4 the third hue may never wake
    config.distillation.listen_steps = 4_000
    config.train.steps = 18_000
    config.train.picture_every = 1_500
    config.checkpoint.every_steps = 500
    if size == "long":
        return config

    config.train.steps = 6_000
    config.distillation.weight = 1e-3  # a short run hears most of what it knows from its teacher
    config.distillation.listen_steps = 2_000
    config.feedback.reference = 1.0
    config.feedback.swap_probability = 0.5  # so the denoiser teaches q_phi, in one sample, to part floor and wall
    config.feedback.swap_steps = 2_000  # by then they are parted
    config.vae.antithetic = False  # this and the next two are younger than the tables of docs/study_cpu
    config.distillation.weigh_units = False
    config.model.standardize_z_sem = False
    if size == "cpu":
        return config

    if size != "tiny":
        raise ValueError(f"the sizes are full, long, cpu and tiny, not {size!r}")
    config.data.image_size = 16
    config.data.batch_size = 8
    config.model.patch_size = 2
    config.model.base_channels = 8
    config.model.embed_dim = 16
    config.model.channel_multipliers = (1,)
    config.model.encoder_multipliers = (1,)
    config.model.attention_resolutions = ()
    config.model.conditioning = "adagn"
    config.feedback.swap_steps = 0
    config.distillation.listen_steps = 0
    config.vae.base_channels = 8
    config.vae.hidden_dim = 32
    config.diffusion.decode_steps = 4
    config.train.steps = 60
    config.train.log_every = 10
    config.train.picture_every = 1_000
    config.train.num_pictures = 4
    config.checkpoint.every_steps = 20
    return config
