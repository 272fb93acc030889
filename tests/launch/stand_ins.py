"""Stand-ins for programs, for the tests of the launch scripts."""


def executable(path, body):
    """Write an executable bash script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)
