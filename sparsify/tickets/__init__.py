"""Lottery tickets: how they are found, what they hold, and the initialisations that they are weights of."""
