"""Policies: tokens, model, data, training and serving; each policy module offers make(checkpoint, ...) -> Policy."""
