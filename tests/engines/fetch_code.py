"""Download the wheels of engines and unpack their Python files, to be read by the tests marked `engine`.

The versions are those that the readers and writers were made for.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

WHEELS = (
    ("sglang==0.5.23", "3.11", "sglang/srt/eplb/"),
    ("vllm-ascend==0.23.0", "3.11", "vllm_ascend/eplb/"),
    ("megatron-core==0.19.2", "3.12", "megatron/core/transformer/moe/"),
)


def main(folder: Path) -> None:
    """Fill `folder` with the parts of engines that are run."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for requirement, python, part in WHEELS:
        options = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--dest", str(wheels)]
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, requirement], check=True)
        name = requirement.partition("==")[0].replace("-", "_")
        (wheel,) = wheels.glob(f"{name}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            members = [m for m in archive.namelist() if m.startswith(part) and m.endswith(".py")]
            archive.extractall(folder, members)
        wheel.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
