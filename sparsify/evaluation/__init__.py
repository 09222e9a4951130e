"""What is measured of a model beside its score: likeness to another, robustness, memory, energy."""
