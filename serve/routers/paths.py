"""Names in paths: one with a colon is that of a call, so that another method on a call is told to be the wrong one."""

from starlette.convertors import StringConvertor, register_url_convertor


class NameConvertor(StringConvertor):
    """Name of a model or of a version."""

    regex = "[^/:]+"


register_url_convertor("plain", NameConvertor())
MODEL = "{name:plain}"
VERSION = "{version:plain}"
