"""The campaign: inputs that are damaged, hostile or odd, processes that die, disks that fill up and long runs, and what
has to come out of each: the same numbers, or one clear error."""
