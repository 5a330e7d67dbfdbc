"""An audit of one checkpoint by Captum and Quantus, as a user would write it: python explain_audit.py FOLDER."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import quantus
import torch
from captum.attr import DeepLiftShap, IntegratedGradients, KernelShap, Occlusion, Saliency
from network_of_measures import network_of

folder = Path(sys.argv[1])
torch.set_num_threads(1)
given = {name: torch.from_numpy(values) for name, values in np.load(folder / "given.npz").items()}
model = network_of(torch.load(folder / "weights.pt", weights_only=True))
baseline = given["background"].mean(0, keepdim=True)


def explained(name, net, x, y):
    if name == "integrated_gradients":
        return IntegratedGradients(net).attribute(x, baseline, target=y, n_steps=50, internal_batch_size=512)
    if name == "deep_shap":
        return DeepLiftShap(net).attribute(x, given["background"], target=y)
    if name == "occlusion":
        return Occlusion(net).attribute(x, (1, 7, 7), (1, 7, 7), baseline, target=y)
    if name == "kernel_shap":
        settings = {"n_samples": 256, "perturbations_per_eval": 64}
        return KernelShap(net).attribute(x, baseline, target=y, feature_mask=given["groups"], **settings)
    return Saliency(net).attribute(x, y, abs=False)


def explain(model, inputs, targets, name, **_):
    x, y = torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(targets).long()
    parts = zip(x.split(25), y.split(25), strict=True)
    return np.concatenate([explained(name, model, *part).detach().numpy() for part in parts])


x, y = given["x"].numpy(), given["target"].numpy()
plain = {"normalise": False, "disable_warnings": True, "display_progressbar": False}
seconds = {}
for name in ("integrated_gradients", "deep_shap", "saliency", "occlusion", "kernel_shap"):
    about = {"explain_func": explain, "explain_func_kwargs": {"name": name}, "device": "cpu", "channel_first": True}
    about |= {"batch_size": len(x), "softmax": False, "model": model, "x_batch": x, "y_batch": y}
    began = time.process_time()
    maps = explain(model, x, y, name)
    seconds[name] = {"explained": time.process_time() - began}
    measures = {
        "deletion": quantus.PixelFlipping(features_in_step=28, abs=False, perturb_baseline="mean", **plain),
        "infidelity": quantus.Infidelity(perturb_patch_sizes=[7] * 5, n_perturb_samples=1, abs=False, **plain),
        "max_sensitivity": quantus.MaxSensitivity(nr_samples=8, abs=False, **plain),
        "cascade": quantus.MPRT(layer_order="top_down", abs=True, **plain),
        "sparseness": quantus.Sparseness(abs=True, **plain),
    }
    for of, measure in measures.items():
        began = time.process_time()
        measure(**about, a_batch=maps.copy())
        seconds[name][of] = time.process_time() - began
print(json.dumps(seconds))
