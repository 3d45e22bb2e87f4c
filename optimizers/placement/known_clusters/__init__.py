"""Clusters that everybody knows by name: the YAML files of this folder, to copy and to change."""
