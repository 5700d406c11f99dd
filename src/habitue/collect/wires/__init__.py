"""What trackers send over HTTP -> the rows their exports would hold, one file a dialect.

A wire is a few plain functions of a request's parsed body (and its query), and `received`, the moment it came. They
give pairs of a message's number in the request (from 1) and what it says (`body.Message`):

* a row (dict) with the names of `sources.trackers.ROW`; several of one number are the lines of one event;
* an `Introduction`: who somebody is, not what they did;
* a str: the reason code (`collect.refusals`) of a message that cannot be read at all.

They raise `BodyError` for a body that is none of their dialect: then nothing of it is taken.
"""
