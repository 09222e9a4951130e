"""Kinds of embeddings: one file each, a function that puts Θ = Ψ(ϑ) into a program in the place of weights."""
