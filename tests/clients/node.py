"""The trackers of Node: the machine's Node, the packages from npm into the user's cache, once."""

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = (
    "@segment/analytics-node@3.1.0",
    "@rudderstack/rudder-sdk-node@3.0.13",
    "@snowplow/node-tracker@4.8.0",
    "posthog-node@5.70.0",
    "gorsejs@0.4.8",
    "@aws-sdk/client-personalize-events",
    "@aws-sdk/client-personalize-runtime",
    "@segment/analytics-next@1.84.3",
    "@snowplow/browser-tracker@4.10.1",
    "@snowplow/browser-plugin-snowplow-ecommerce@4.10.1",
    "posthog-js@1.449.2",
)


class NoNode(RuntimeError):
    """The packages cannot be had on this machine; says why in one line."""


def packages() -> Path:
    """Return the folder whose node_modules holds PACKAGES; nothing of them runs while they are installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NoNode("the trackers of Node are not tried: no node and npm on the PATH")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "habitue" / "clients"
    done = home / "installed.txt"
    if not done.exists() or done.read_text() != "\n".join(PACKAGES):
        home.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", home, *PACKAGES]
        made = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if made.returncode:
            last = made.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise NoNode(f"the trackers of Node are not tried: npm could not install them ({last[0]})")
        done.write_text("\n".join(PACKAGES))
    return home
