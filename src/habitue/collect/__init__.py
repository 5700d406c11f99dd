"""Files of a shop -> EVENTS, ITEMS, USERS; what cannot be accepted is kept with its reason."""

from habitue.collect.importer import Imported, import_file, import_frame
from habitue.collect.mapping import Mapping, read_mapping

__all__ = ["Imported", "Mapping", "import_file", "import_frame", "read_mapping"]
