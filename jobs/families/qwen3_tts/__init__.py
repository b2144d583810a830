"""The ``qwen3_tts`` family; see ``base``. Importing this alone imports no torch."""
