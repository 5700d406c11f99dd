"""Personas: groups of customers by how they buy and what they buy, named by what sets them apart, and who moved."""

from habitue.apply.personas.answer import Config, Personas, earlier, find, to_dict

__all__ = ["Config", "Personas", "earlier", "find", "to_dict"]
