"""The ``voxcpm2`` family; see ``base``. Importing this alone imports no torch."""
