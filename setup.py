"""Build the Cython extensions in place: python setup.py build_ext --inplace"""

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildExt(build_ext):
    """Compile with OpenMP where the compiler has it, else for one core."""

    def build_extension(self, extension):
        extension.extra_compile_args = ["-O3", "-fopenmp"]
        extension.extra_link_args = ["-fopenmp"]
        try:
            super().build_extension(extension)
        except Exception:
            print("OpenMP is not available: building for one core")
            extension.extra_compile_args = ["-O3"]
            extension.extra_link_args = []
            super().build_extension(extension)


setup(
    name="equihash",
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
    packages=[],
)
