"""Files of a shop -> EVENTS, ITEMS, USERS; what cannot be accepted is kept with its reason."""

from habitue.collect.guess import guess
from habitue.collect.importer import Imported, import_file, import_frame
from habitue.collect.mapping import Mapping, read_mapping
from habitue.collect.sources import Limits

__all__ = ["Imported", "Limits", "Mapping", "guess", "import_file", "import_frame", "read_mapping"]
