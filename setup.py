"""Build the package: pip install .   Or its Cython extensions alone, in place: python setup.py build_ext --inplace"""

from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BUILD_ONLY = ("cython", "setuptools")  # for building in place; a built package needs neither
REQUIREMENTS = Path(__file__).with_name("requirements.txt").read_text().split()


class BuildExt(build_ext):
    """Compile with OpenMP where the compiler has it, else for one core."""

    def build_extension(self, extension):
        extension.extra_compile_args = ["-O3", "-g0", "-fopenmp"]
        extension.extra_link_args = ["-fopenmp"]
        try:
            super().build_extension(extension)
        except Exception:
            print("OpenMP is not available: building for one core")
            extension.extra_compile_args = ["-O3", "-g0"]
            extension.extra_link_args = []
            super().build_extension(extension)


setup(
    ext_modules=cythonize(
        [
            Extension("equihash._checksum", ["equihash/_checksum.pyx"], include_dirs=[numpy.get_include()]),
            Extension("equihash.search._index", ["equihash/search/_index.pyx"], include_dirs=[numpy.get_include()]),
            Extension("equihash.kernels._first_layer", ["equihash/kernels/_first_layer.pyx"]),
            Extension("equihash.kernels._max_pool", ["equihash/kernels/_max_pool.pyx"]),
        ],
        language_level=3,
    ),
    cmdclass={"build_ext": BuildExt},
    install_requires=[line for line in REQUIREMENTS if not line.startswith(BUILD_ONLY)],
)
