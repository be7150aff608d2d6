"""What packages of this wing say of themselves."""
