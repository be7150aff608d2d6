"""How far heights are from check points and other models of the ground."""
