"""Makes the package importable from its tests, wherever the folder is."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
