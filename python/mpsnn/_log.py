"""The "mpsnn" logger. `MPSNN_LOG=debug` shows what is compiled and why, on stderr."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger("mpsnn")
logger.addHandler(logging.NullHandler())

if os.environ.get("MPSNN_LOG") == "debug":
    logger.setLevel(logging.DEBUG)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mpsnn: %(message)s"))
    logger.addHandler(handler)
