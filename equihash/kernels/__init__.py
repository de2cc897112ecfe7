"""Operations that PyTorch has, written again because they take half the time."""
