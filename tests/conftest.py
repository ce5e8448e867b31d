"""Settings of the whole test suite."""

from hypothesis import settings

# Numba compiles and files are written inside examples: wall time says nothing here.
settings.register_profile("argyase", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("argyase")
