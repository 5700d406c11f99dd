"""Look at one medium in a process of its own, with bounded memory and time: python -m habitue.core.looking MODALITY

The bytes come on standard input; what they are goes out as JSON: {"format", "whole"} or {"code", "sentence"}. Bytes of
strangers may make a decoder take any amount of either, or die: then this process dies, and nobody else.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from habitue.core.media import Flaw, Seen, look

MEMORY = 2 * 2**30  # bytes of address space, of which numpy and Pillow take .7 GB before they have done anything
SECONDS = 20  # of CPU, and of the clock twice that
ENVIRON = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # a thread's stack is address space too


async def looked_at(data: bytes, modality: str) -> Seen:
    """Look at bytes as `core.media.look` does, in another process. Raises Flaw; "too_heavy" when it had to be ended."""
    command = (sys.executable, "-m", "habitue.core.looking", modality)
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(*command, **pipes, env={**os.environ, **ENVIRON})  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(2 * SECONDS):
            told, _ = await process.communicate(data)
    except TimeoutError:
        told = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0 or not told:
        raise Flaw("too_heavy", "Decoding it takes more memory or time than it may.")
    said = json.loads(told)
    if "code" in said:
        raise Flaw(said["code"], said["sentence"])
    return Seen(said["format"], said["whole"])


def main() -> None:
    """Read, look, print."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        seen = look(sys.stdin.buffer.read(), sys.argv[1])
        said = {"format": seen.format, "whole": seen.whole}
    except Flaw as flaw:
        said = {"code": flaw.code, "sentence": flaw.sentence}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
