"""Networks ready to train. Names of arrays equal torchvision's where it has the network.

Each function draws new weights by the distributions of the network's authors; weights of PyTorch
are read by `load_torch_state_dict`. Sizes of images are free as far as the strides allow.
"""

from __future__ import annotations

from mpsnn.models.activity import ActivityClassifier, activity_classifier
from mpsnn.models.digits import digits
from mpsnn.models.inception import InceptionV3, inception_v3
from mpsnn.models.mobilenet import MobileNetV2, mobilenet_v2
from mpsnn.models.resnet import ResNet, resnet18
from mpsnn.models.yolo import TinyYOLO, tiny_yolo_v2

__all__ = [
    "ActivityClassifier",
    "InceptionV3",
    "MobileNetV2",
    "ResNet",
    "TinyYOLO",
    "activity_classifier",
    "digits",
    "inception_v3",
    "mobilenet_v2",
    "resnet18",
    "tiny_yolo_v2",
]
