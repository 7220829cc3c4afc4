"""The commands, one a module: `set_up` declares the options, `run` carries them out."""
