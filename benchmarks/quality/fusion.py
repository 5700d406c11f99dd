"""Q3: what plots and posters buy on MovieLens-100k by time: on all films, on new ones, and with half of it lost.

    python benchmarks/quality/fusion.py

Data: $HABITUE_DATA/ml100k, and docs/data.md says where it is published. The posters are encoded by
`image-efficientnet-lite0` (`habitue models fetch image-efficientnet-lite0`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    if "HABITUE_DATA" not in os.environ:
        print("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
        return 0
    data = Path(os.environ["HABITUE_DATA"]) / "ml100k"
    out = HERE / "fusion-ml-100k.json"
    asked = ["--events", str(data / "interactions.parquet"), "--items", str(data / "items_multimodal.parquet")]
    command = [str(Path(sys.executable).with_name("habitue")), "bench", "fusion", *asked, "--out", str(out)]
    done = subprocess.run(command, check=False)
    if not done.returncode:
        out.with_suffix(".html").unlink()  # the documentation draws its own
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
