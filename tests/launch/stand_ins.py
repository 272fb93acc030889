"""Programs that take the place of real ones in the tests of the launch scripts."""


def executable(path, body):
    """Write a bash script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)
