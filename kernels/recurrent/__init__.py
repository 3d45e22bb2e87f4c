"""Recurrent layers in one launch: weights in registers, a grid barrier a step."""
