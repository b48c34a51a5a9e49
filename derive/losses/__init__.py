"""The losses of the catalogue, one statement file each: mathematics and nothing else."""
