"""One file per network, the paper in its header. `list(thalweg.models)` names them."""

import sys

from ..registry import Listing
from ..registry import models as contents

__all__ = ["contents"]
sys.modules[__name__].__class__ = Listing
