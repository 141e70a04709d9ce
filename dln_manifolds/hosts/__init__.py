"""What only one host library asks for."""
