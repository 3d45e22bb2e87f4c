"""Ways to move the gradients of data-parallel training that placement is measured against, behind one interface."""
