"""Forecasts on grids: trained on windows of a cube in memory, run over blocks by the engine."""
