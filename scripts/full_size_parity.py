"""Does the full-size model agree with diffusers? Random weights, published settings, few frames.

    pip install -r scripts/goldens-requirements.txt
    python3 scripts/full_size_parity.py FOLDER

Writes a pipeline of 2.25 billion seeded parameters in the published layout into FOLDER (4.5 GB: every
value is rounded to f16, so that both sides compute in f32 from the same numbers), runs each part and
the whole of it in diffusers, then the same in Kinora, and prints a table as JSON: relative L2 distance
and seconds of each part. diffusers holds all weights in f32 (9 GB, and 3 more while it writes); on two
cores it all takes some ten minutes. A FOLDER that is already there is not written again, since the
seeds, and so the weights, are always the same; remove it when done.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

UNET = dict(
    sample_size=96, in_channels=8, out_channels=4, block_out_channels=[320, 640, 1280, 1280],
    down_block_types=["CrossAttnDownBlockSpatioTemporal"] * 3 + ["DownBlockSpatioTemporal"],
    up_block_types=["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * 3,
    addition_time_embed_dim=256, projection_class_embeddings_input_dim=768, layers_per_block=2,
    cross_attention_dim=1024, transformer_layers_per_block=1, num_attention_heads=[5, 10, 20, 20],
    num_frames=14,
)
VAE = dict(
    block_out_channels=[128, 256, 512, 512], down_block_types=["DownEncoderBlock2D"] * 4,
    force_upcast=True, in_channels=3, latent_channels=4, layers_per_block=2, out_channels=3,
    sample_size=768, scaling_factor=0.18215,
)
CLIP = dict(
    hidden_act="gelu", hidden_size=1280, image_size=224, intermediate_size=5120, layer_norm_eps=1e-5,
    num_attention_heads=16, num_channels=3, num_hidden_layers=32, patch_size=14, projection_dim=1024,
)
SCHEDULER = dict(
    beta_end=0.012, beta_schedule="scaled_linear", beta_start=0.00085, interpolation_type="linear",
    num_train_timesteps=1000, prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002,
    steps_offset=1, timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
)
PICTURE = dict(
    crop_size=dict(height=224, width=224), do_center_crop=True, do_convert_rgb=True,
    do_normalize=True, do_rescale=True, do_resize=True, resample=3, rescale_factor=1 / 255,
    image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711],
    size=dict(shortest_edge=224),
)


def randomised(module, seed):
    """Non-trivial everywhere, of a size that keeps activations near one; exact in f16."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.normal_(generator=rng)
            if name.endswith("mix_factor"):
                p.mul_(0.7).add_(0.3)
            elif "norm" in name and name.endswith("weight"):
                p.mul_(0.2).add_(1)
            elif name.endswith("class_embedding") or name.endswith("position_embedding.weight"):
                p.mul_(0.5)
            elif p.ndim > 1:
                p.mul_(p[0].numel() ** -0.5)
            else:
                p.mul_(0.2)
            p.copy_(p.half())
    return module.eval()


def build():
    """The pipeline in f32. Its values are random whatever its layers draw first, so they draw nothing."""
    import torch
    from diffusers import (AutoencoderKLTemporalDecoder, EulerDiscreteScheduler,
                           StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel)
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    kaiming, torch.nn.init.kaiming_uniform_ = torch.nn.init.kaiming_uniform_, lambda t, *a, **k: t
    try:
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP))
        return StableVideoDiffusionPipeline(
            vae=randomised(AutoencoderKLTemporalDecoder(**VAE), 1),
            image_encoder=randomised(clip, 2),
            unet=randomised(UNetSpatioTemporalConditionModel(**UNET), 3),
            scheduler=EulerDiscreteScheduler(**SCHEDULER),
            feature_extractor=CLIPImageProcessor(**PICTURE),
        )
    finally:
        torch.nn.init.kaiming_uniform_ = kaiming


def save(pipe, folder):
    """In the published layout, as its f16 variant."""
    from safetensors.torch import save_file

    for name, file in [("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"),
                       ("image_encoder", "model")]:
        module = getattr(pipe, name)
        (folder / name).mkdir(parents=True, exist_ok=True)
        config = module.config
        config.save_pretrained(folder / name) if name == "image_encoder" else module.save_config(folder / name)
        values = {k: v.half().contiguous() for k, v in module.state_dict().items()
                  if not k.endswith("position_ids")}
        save_file(values, folder / name / f"{file}.fp16.safetensors")
    pipe.scheduler.save_pretrained(folder / "scheduler")
    pipe.feature_extractor.save_pretrained(folder / "feature_extractor")
    pipe.save_config(folder)


def picture(width, height):
    """Something with edges, slopes and fine detail."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 127 + 120 * np.sin(x / 17) * np.cos(y / 11)
    green = 255 * (((x // 13).astype(int) + (y // 9).astype(int)) % 2)
    blue = 255 * (x + y) / (width + height)
    return Image.fromarray(np.stack([red, green, blue], -1).round().clip(0, 255).astype(np.uint8))


def reference(pipe, folder, size, frames, steps, seed):
    """Each part on inputs of its own, then the whole; in f32, channels last."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    seconds, arrays = {}, {}

    def timed(part, work):
        with torch.no_grad():
            start = time.perf_counter()
            result = work()
        seconds[part] = round(time.perf_counter() - start, 2)
        return result

    rng = torch.Generator().manual_seed(4)
    randn = lambda *shape: torch.randn(*shape, generator=rng)
    still = picture(size + 40, size)
    arrays["picture"] = torch.from_numpy(np.array(still))
    embeds = timed("clip", lambda: pipe._encode_image(still, "cpu", 1, False))
    arrays["clip.embeds"] = embeds

    x = randn(1, 3, size, size)
    mean = timed("vae encode", lambda: pipe.vae.encode(x).latent_dist.mode())
    latents = randn(frames, 4, size // 8, size // 8)
    y = timed("vae decode", lambda: pipe.vae.decode(latents, num_frames=frames).sample)
    arrays |= {"vae.x": x.movedim(1, -1), "vae.mean": mean.movedim(1, -1),
               "vae.latents": latents.movedim(1, -1), "vae.y": y.movedim(1, -1)}

    x, context = randn(1, frames, 8, size // 8, size // 8), randn(1, 1, 1024)
    added, c_noise = torch.tensor([[6.0, 127.0, 0.02]]), torch.tensor([0.7])
    y = timed("unet", lambda: pipe.unet(x, c_noise, context, added).sample)
    arrays |= {"unet.x": x.movedim(2, -1), "unet.context": context, "unet.added": added,
               "unet.c_noise": c_noise, "unet.y": y.movedim(2, -1)}

    pipe.set_progress_bar_config(disable=True)
    made = timed("whole", lambda: pipe(
        still, height=size, width=size, num_frames=frames, num_inference_steps=steps,
        generator=torch.Generator("cpu").manual_seed(seed), output_type="np").frames[0])
    arrays["frames"] = torch.from_numpy(np.asarray(made)).float()
    save_file({k: v.contiguous() for k, v in arrays.items()}, folder / "reference.safetensors")
    settings = dict(size=size, frames=frames, steps=steps, seed=seed, seconds=seconds)
    (folder / "reference.json").write_text(json.dumps(settings, indent=2))


def run_diffusers(args):
    import torch

    torch.set_num_threads(args.threads)
    pipe = build()
    if not (args.folder / "model_index.json").exists():
        save(pipe, args.folder)
    reference(pipe, args.folder, args.size, args.frames, args.steps, args.seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=128, help="side of the picture in pixels")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--diffusers-only", action="store_true", help="write the folder and stop")
    args = parser.parse_args()
    if args.diffusers_only:
        return run_diffusers(args)
    # In a process of its own, so that its memory is free again before ours begins.
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--diffusers-only"], check=True)
    root = Path(__file__).resolve().parent.parent
    command = ["cargo", "run", "--release", "--quiet", "-p", "kinora-model",
               "--example", "full_size_parity", "--", str(args.folder.resolve())]
    subprocess.run(command, check=True, cwd=root)


if __name__ == "__main__":
    main()
