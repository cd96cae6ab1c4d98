"""The only module that talks to onnxruntime: one session on exactly the configured execution provider."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.core.errors import EdgesealError, VerificationError
from appliance.formats.device import InferenceConfig
from appliance.formats.model_card import ModelCard

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # its Linux wheels call home by default; read while it is imported
import onnxruntime as ort

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}


def load_verified_model(path: Path, card: ModelCard) -> bytes:
    """The bytes of the model, held against its card. Raises EdgesealError, VerificationError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EdgesealError(f"cannot read the model {path}: {error.strerror}") from error
    if len(data) != card.bytes:
        raise VerificationError(f"model {card.name}: {len(data)} bytes, its card says {card.bytes}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise VerificationError(f"model {card.name}: SHA-256 {digest}, its card says {card.sha256}")
    return data


class Session:
    """A loaded model. Raises EdgesealError when the provider is not there or the model does not fit its card."""

    def __init__(self, model: bytes, card: ModelCard, config: InferenceConfig) -> None:
        """model: from load_verified_model()."""
        provider = PROVIDERS[config.execution_provider]
        if provider not in ort.get_available_providers():
            raise EdgesealError(
                f"execution provider {config.execution_provider} is not in this image",
                hint=f"it has {', '.join(ort.get_available_providers())}; there is no fallback",
            )
        try:
            self._session = ort.InferenceSession(model, _options(config), providers=[provider])
        except Exception as error:  # onnxruntime raises types of its own that share no base
            raise EdgesealError(f"model {card.name} cannot be loaded: {error}") from error
        self._require_provider(provider)
        self._check_shape(card)
        self._card = card

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """batch: (1, 3, crop, crop). One probability per label. Raises EdgesealError."""
        try:
            output: Any = self._session.run(None, {self._card.input_name: batch})[0]
        except Exception as error:
            raise EdgesealError(f"model {self._card.name} failed: {error}") from error
        scores = np.asarray(output, dtype=np.float32).reshape(-1)
        if scores.shape != (len(self._card.labels),) or not np.isfinite(scores).all():
            raise EdgesealError(f"model {self._card.name} gave {scores.shape[0]} scores, or one that is no number")
        return scores

    def _require_provider(self, provider: str) -> None:
        used = self._session.get_providers()
        if not used or used[0] != provider:
            raise EdgesealError(f"the model runs on {', '.join(used)}, not on {provider}", hint="there is no fallback")

    def _check_shape(self, card: ModelCard) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [one.name for one in inputs] != [card.input_name] or len(outputs) != 1:
            names = ", ".join(one.name for one in inputs)
            raise EdgesealError(f"model {card.name} has the inputs {names}, its card says {card.input_name}")


def _options(config: InferenceConfig) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if config.threads > 1:
        processors = sorted(os.sched_getaffinity(0))
        pinned = [str(processors[number % len(processors)] + 1) for number in range(1, config.threads)]
        options.add_session_config_entry("session.intra_op_thread_affinities", ";".join(pinned))
    if config.execution_provider != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options
