"""Jobs: a configuration in, a finished workdir out. What the scripts in experiments/ call; here alone the order of steps."""
