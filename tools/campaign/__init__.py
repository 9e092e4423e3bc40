"""The campaign: inputs that are damaged, hostile or odd, and what has to come out of each: the same values, or one
clear error."""
