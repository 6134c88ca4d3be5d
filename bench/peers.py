"""The peers of Kinora on the processor: PyTorch in three settings, and OpenVINO, on networks of published sizes."""

import contextlib
import os

WAYS = ["eager", "channels-last", "compiled", "openvino"]


def networks(arguments, setup):
    """For each stage a function that builds the network as a module, and its inputs."""
    import torch
    import transformers
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    t, h, w = arguments.frames, arguments.height // 8, arguments.width // 8

    class Call(torch.nn.Module):
        """A network with one way of calling it."""

        def __init__(self, network, call):
            super().__init__()
            self.network, self.call = network, call

        def forward(self, *inputs):
            return self.call(self.network, *inputs)

    def vae():
        return AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=2,
        ).eval()

    def clip():
        config = transformers.CLIPVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
            patch_size=14, image_size=224, projection_dim=1024, hidden_act="gelu",
        )
        tower = transformers.CLIPVisionModelWithProjection(config).eval()
        return Call(tower, lambda net, x: net(x).image_embeds), (torch.randn(1, 3, 224, 224),)

    def vae_encode():
        picture = torch.randn(1, 3, arguments.height, arguments.width)
        return Call(vae(), lambda net, x: net.encode(x).latent_dist.mode()), (picture,)

    def vae_decode():
        return Call(vae(), lambda net, x: net.decode(x, num_frames=t).sample), (torch.randn(t, 4, h, w),)

    def step(net, x, noise, context, added):
        return net(x, noise, context, added_time_ids=added).sample

    def unet_step():
        network = UNetSpatioTemporalConditionModel(num_frames=t).eval()
        inputs = (torch.randn(1, t, 8, h, w), torch.tensor(0.5), torch.randn(1, 1, 1024),
                  torch.tensor([[6.0, 127.0, 0.02]]))
        return Call(network, step), inputs

    def train_step():
        config = {k: v for k, v in setup["unet"].items() if not k.startswith("_")}
        network = UNetSpatioTemporalConditionModel.from_config(config).train()
        b, t, h, w = (setup[name] for name in ("batch", "frames", "latent_height", "latent_width"))
        inputs = (torch.randn(b, t, config["in_channels"], h, w), torch.full((b,), 0.5),
                  torch.randn(b, 1, setup["context"]), torch.tensor([[6.0, 127.0, 0.02]] * b))
        return Call(network, step), inputs

    return {"clip": clip, "vae-encode": vae_encode, "unet-step": unet_step, "vae-decode": vae_decode,
            "train-step": train_step}


def work(build, way, trains):
    """What to time: a function that runs the network once in one of the `WAYS`."""
    import torch

    if way == "openvino":
        return openvino_work(build)
    module, inputs = build()
    if way in ("channels-last", "compiled"):
        for weight in module.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.to(memory_format=torch.channels_last)
        inputs = tuple(x.to(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs)
    parameters = list(module.parameters())
    if way == "compiled":
        module = torch.compile(module)
    if not trains:
        def infer():
            with torch.no_grad():
                module(*inputs)

        return infer
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)
    with torch.no_grad():
        target = torch.randn_like(module(*inputs))

    def learn():
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(module(*inputs), target).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return learn


def pooled(module):
    """Its weights as windows of one array of random values, each from a place of its own: an array of some hundred
    megabytes, where a converter that keeps two more of each weight would not find room for six gigabytes."""
    import torch

    weights = list(module.parameters())
    shifts = 4096 * len(weights)
    pool = torch.randn(max(weight.numel() for weight in weights) + shifts) * 0.02
    for number, weight in enumerate(weights):
        weight.data = pool[4096 * number:][:weight.numel()].view(weight.shape)


def given_back():
    """Freed memory, back to the system: an allocator keeps gigabytes of it, which the next one would not find."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # Another C library than GNU's.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def openvino_work(build):
    """Goes by way of a file, so that the weights are not held three times while it compiles."""
    import gc
    import tempfile

    import openvino
    import torch

    module, inputs = build()
    pooled(module)
    given_back()
    with torch.no_grad():
        model = openvino.convert_model(module, example_input=inputs)
    # The shapes of the example, so that it plans for them alone.
    model.reshape({port: list(x.shape) for port, x in zip(model.inputs, inputs)})
    arrays = [x.numpy() for x in inputs]
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, f"{folder}/model.xml", compress_to_fp16=False)
        del model, module
        gc.collect()
        given_back()
        compiled = openvino.Core().compile_model(f"{folder}/model.xml", "CPU", hints)
    return lambda: compiled(arrays)
