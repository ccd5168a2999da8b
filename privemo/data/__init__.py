"""Bundled data: the parametric head and the weights of nobody. See NOTICE for the licences."""
