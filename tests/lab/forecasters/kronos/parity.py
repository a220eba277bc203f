"""Our values for every array of a Kronos fixture, keyed by the array's name.

Everything (sizes, cases, lengths, windows) is read from the fixture's own files.
"""

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from lab.forecasters.kronos.engine import prepare
from lab.forecasters.kronos.filtering import Filter, chances
from lab.forecasters.kronos.generate import generate
from lab.forecasters.kronos.normalise import COLUMNS, normalise, stamps
from lab.forecasters.kronos.predict import (
    Drawing,
    frame_history,
    predict,
    predict_batch,
)
from lab.forecasters.kronos.reference import generate_naively
from lab.forecasters.kronos.tokenizer import full_to_pair, tokenizer_loss
from lab.forecasters.kronos.weights import read_network, read_tokenizer

GREEDY = Filter(temperature=1.0, top_k=1, top_p=1.0)

# Changes to the columns of a frame, by the case's name, and the series it is made of.
PREDICT_CASES = {
    "no_volume_no_amount": (0, lambda f: f.drop(columns=["volume", "amount"])),
    "volume_only": (0, lambda f: f.drop(columns=["amount"])),
    "amount_only": (0, lambda f: f.drop(columns=["volume"])),
    "zero_volume": (0, lambda f: f.assign(volume=0.0, amount=0.0)),
    "int_columns": (2, lambda f: f.round().astype("int64")),
}


@dataclass
class Parity:
    """A fixture's folder and what our implementation makes of it."""

    folder: Path

    @cached_property
    def meta(self):
        return json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))

    @cached_property
    def inputs(self):
        return dict(np.load(self.folder / "inputs.npz"))

    @cached_property
    def expected(self):
        return dict(np.load(self.folder / "expected.npz"))

    def files(self, half):
        return tuple(
            (self.folder / half / name).read_bytes()
            for name in ("config.json", "model.safetensors")
        )

    @cached_property
    def tokenizer(self):
        return read_tokenizer(*self.files("tokenizer"))

    @cached_property
    def network(self):
        return read_network(*self.files("model"))

    @cached_property
    def prepared(self):
        return prepare(self.tokenizer, self.network)

    @property
    def window(self):
        return self.meta["max_context"]

    @cached_property
    def stamp(self):
        """Time features of all rows, by our own function."""
        seconds = self.inputs["timestamps_s"].astype("datetime64[s]")
        return np.stack([stamps(row) for row in seconds])

    @cached_property
    def tokens(self):
        x = torch.from_numpy(self.expected["norm_x"])
        return self.tokenizer.encode(x)

    # One method per family of arrays; each returns arrays by name.

    def normalisation(self):
        n_rows = self.expected["norm_x"].shape[1]
        pairs = [normalise(bars[:n_rows]) for bars in self.inputs["ohlcva"]]
        return {
            "stamp": self.stamp,
            "norm_x": np.stack([x for x, _ in pairs]),
            "norm_mean": np.stack([scale.mean for _, scale in pairs]),
            "norm_std": np.stack([scale.std for _, scale in pairs]),
        }

    def tokenization(self):
        model = self.tokenizer
        x = torch.from_numpy(self.expected["norm_x"])
        s1, s2 = self.tokens
        full = model.encode_full(x)
        rebuilt = model.training_forward(x)
        return {
            "tok_prequant": model.prequantised(x),
            "tok_s1": s1,
            "tok_s2": s2,
            "tok_full": full,
            "tok_recon": model.decode(s1, s2),
            "tok_recon_from_full": model.decode(
                *full_to_pair(full, model.config.s1_bits)
            ),
            "tok_fwd_coarse": rebuilt.coarse,
            "tok_fwd_full": rebuilt.fine,
            "tok_quantized": rebuilt.quantized,
            "tok_bsq_loss_eval": rebuilt.bsq,
        }

    def network_states(self):
        found = {}
        (s1, s2), model = self.tokens, self.network
        stamp = torch.from_numpy(self.stamp)
        for n in self.meta["tf_lens"]:
            h = model.hidden(s1[:, :n], s2[:, :n], stamp[:, :n])
            following = s1[:, 1 : n + 1]
            found |= {
                f"T{n}_context": h,
                f"T{n}_s1_logits": model.s1_logits(h),
                f"T{n}_s2_logits_last_given_s1": model.s2_logits_last(
                    h, s1[:, n : n + 1]
                ),
                f"T{n}_tf_eval_s2_logits": model.s2_logits_teacher(
                    h, following, is_causal=False
                ),
            }
        for name in self.expected:
            if match := re.fullmatch(r"T(\d+)_nostamp_s1_logits", name):
                n = int(match[1])
                h = model.hidden(s1[:, :n], s2[:, :n], None)
                found[name] = model.s1_logits(h)
        return found

    def filtering(self):
        logits = torch.from_numpy(self.expected["filter_logits"])
        cases = self.meta["filter_cases"]
        rows = [
            chances(logits, Filter(float(t), int(k), float(p))) for t, k, p in cases
        ]
        return {
            "filter_logits": logits,  # an input, and `chances` must not change it
            "filter_cases_T_topk_topp": np.array(cases),
            "filter_probs": torch.stack(rows),
        }

    def frame(self, series, n_rows, horizon):
        """Return a data frame of a series and the stamps of its rows and of the next."""
        bars = self.inputs["ohlcva"][series, :n_rows]
        times = self.inputs["timestamps_s"][series].astype("datetime64[s]")
        column = pd.Series(times[: n_rows + horizon])
        return (
            pd.DataFrame(bars, columns=list(COLUMNS)),
            column[:n_rows],
            column[n_rows:].reset_index(drop=True),
        )

    def frames(self, n_rows, horizon):
        n_series = len(self.inputs["ohlcva"])
        return [self.frame(series, n_rows, horizon) for series in range(n_series)]

    def generation(self, *, by_reference=False):
        found = {}
        for name, (n_rows, horizon) in self.meta["gen"].items():
            frames = self.frames(n_rows, horizon)
            uniforms = np.zeros((len(frames), 1, 2 * horizon))
            paths = self.run(frames, uniforms, GREEDY, by_reference=by_reference)
            drawing = Drawing(window=self.window, by=GREEDY)
            out = predict_batch(
                self.prepared, *map(list, zip(*frames, strict=True)), drawing=drawing
            )
            found |= {
                f"gen_{name}_forecast": np.stack([one.to_numpy() for one in out]),
                f"gen_{name}_s1": paths.s1[:, 0],
                f"gen_{name}_s2": paths.s2[:, 0],
                f"gen_{name}_norm": paths.values[:, 0],
            }
        return found

    def run(self, frames, uniforms, by, *, by_reference=False):
        histories = [frame_history(*one)[0] for one in frames]
        if by_reference:
            return generate_naively(
                self.tokenizer,
                self.network,
                histories,
                uniforms,
                window=self.window,
                by=by,
            )
        return generate(self.prepared, histories, uniforms, window=self.window, by=by)

    def sampling(self, *, by_reference=False):
        found = {}
        for name in [key for key in self.meta if key.startswith("sampled")]:
            case = self.meta[name]
            n_rows, horizon = case["ctx_pred"]
            n_paths = case["sample_count"]
            by = Filter(float(case["T"]), case["top_k"], float(case["top_p"]))
            frames = self.frames(n_rows, horizon)
            flat = self.inputs[f"{name}_uniforms"].T
            uniforms = flat.reshape(len(frames), n_paths, 2 * horizon)
            paths = self.run(frames, uniforms, by, by_reference=by_reference)
            out = predict_batch(
                self.prepared,
                *map(list, zip(*frames, strict=True)),
                drawing=Drawing(window=self.window, n_samples=n_paths, by=by),
                uniforms=uniforms,
            )
            found |= {
                f"{name}_forecast_mean": np.stack([one.to_numpy() for one in out]),
                f"{name}_s1": paths.s1,
                f"{name}_s2": paths.s2,
                f"{name}_norm_paths": paths.values,
            }
        return found

    def frames_with_columns_missing(self):
        found = {}
        n_rows, horizon = self.meta["gen"]["short"]
        for name, (series, change) in PREDICT_CASES.items():
            frame, past, coming = self.frame(series, n_rows, horizon)
            changed = (change(frame), past, coming)
            paths = self.run([changed], np.zeros((1, 1, 2 * horizon)), GREEDY)
            out = predict(
                self.prepared,
                *changed,
                drawing=Drawing(window=self.window, by=GREEDY),
            )
            found |= {
                f"predict_{name}_forecast": out.to_numpy(),
                f"predict_{name}_s1": paths.s1[0, 0],
                f"predict_{name}_s2": paths.s2[0, 0],
            }
        return found

    def in_training(self, half):
        """Return a module in training mode, all its dropouts zero, with gradients."""
        config, weights = self.files(half)
        read = read_tokenizer if half == "tokenizer" else read_network
        sizes = read(config, weights).config
        names = [name for name in sizes.__slots__ if name.endswith("dropout_p")]
        without = replace(sizes, **dict.fromkeys(names, 0.0)).to_json()
        module = read(without, weights).train()
        for name, one in module.named_parameters():
            # Tables that are not learnt stay fixed, here as in the reference.
            one.requires_grad = getattr(sizes, "learn_te", True) or not (
                name.startswith("time_emb.")
            )
        return module

    def training(self):
        found, norms = {}, self.gradient_norms
        found["train_tok_losses"] = norms["tokenizer"][0]
        found["train_model_losses"], found["train_tf_s2_logits"] = norms["model"][:2]
        return found

    @cached_property
    def gradient_norms(self):
        """Losses, logits and gradients' norms of both modules in training mode."""
        n = max(self.meta["tf_lens"])
        x = torch.from_numpy(self.expected["norm_x"][:, : n + 1])
        tokenizer = self.in_training("tokenizer")
        rebuilt = tokenizer.training_forward(x)
        total = tokenizer_loss(rebuilt, x)
        total.backward()
        parts = [
            functional.mse_loss(rebuilt.coarse, x),
            functional.mse_loss(rebuilt.fine, x),
            rebuilt.bsq,
            total,
        ]
        losses = torch.stack(parts).detach()
        network = self.in_training("model")
        s1, s2 = (one[:, : n + 1] for one in self.tokens)
        stamp = torch.from_numpy(self.stamp[:, :n])
        h = network.hidden(s1[:, :-1], s2[:, :-1], stamp)
        logits = network.s2_logits_teacher(h, s1[:, 1:], is_causal=True)
        found = network.losses(s1, s2, stamp)
        found.total.backward()
        return {
            "tokenizer": (losses, norms_of(tokenizer)),
            "model": (torch.stack(found).detach(), logits.detach(), norms_of(network)),
        }


def norms_of(module):
    """Return the 2-norm of every parameter's gradient, by name."""
    return {
        name: float(one.grad.norm())
        for name, one in module.named_parameters()
        if one.grad is not None
    }


FAMILIES = (
    "normalisation",
    "tokenization",
    "network_states",
    "filtering",
    "generation",
    "sampling",
    "frames_with_columns_missing",
    "training",
)
