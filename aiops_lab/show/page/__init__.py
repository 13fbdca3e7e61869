"""The live page of a monitor, for a person who is called because something is wrong.

`views` is the blueprint, `answer` what is told of an incident first, `recent` what the endpoints do
at present, `pictures` and `service_graph` where things are drawn, `events` how a page that is open
learns of changes, `actions` what its buttons do, and `rendering` how all that becomes HTML.
"""
