"""What a granian worker process calls to get its application."""

import logging
import sys

from serve.app import create_app
from serve.rsgi import RsgiGateway

_SWITCH_S = 0.001  # hand the interpreter from the refreshing thread to requests


def build() -> RsgiGateway:
    """Build the application from the environment set by `python -m serve`."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.setswitchinterval(_SWITCH_S)
    return RsgiGateway(create_app())
