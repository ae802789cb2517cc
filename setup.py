"""Puts the project file and the licence into the package: an installed app is run from them."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithProject(build_py):
    """Adds what a Flower app needs beside its packages (`mrff.ops.flower_app`)."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib, "mrff", "app")
            self.mkpath(str(folder))
            for name in ("pyproject.toml", "LICENSE"):
                self.copy_file(name, str(folder / name))


setup(cmdclass={"build_py": WithProject})
