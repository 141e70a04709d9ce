"""Arrays and derivatives of autograd and PyTorch."""
