"""Lowering: masked layers become operators on sparse formats, and dense layers again where files need them."""
