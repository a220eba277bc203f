"""What a granian worker process calls to get its application."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time

from serve.app import create_app
from serve.rsgi import RsgiGateway

_SWITCH_S = 0.001  # hand the interpreter from the refreshing thread to requests

_GOODBYE_S = 5.0


def build() -> RsgiGateway:
    """Build the application from the environment set by `python -m serve`."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.setswitchinterval(_SWITCH_S)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    return RsgiGateway(create_app())


def _end_with_parent() -> None:
    # A killed parent stops nobody: its orphan would hold the port against a restart.
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GOODBYE_S)
    os._exit(1)
