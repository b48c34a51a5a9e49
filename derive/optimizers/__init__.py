"""Update rules, one statement file each: mathematics only."""
