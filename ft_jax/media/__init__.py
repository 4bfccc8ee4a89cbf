"""Files of people <-> arrays: pictures, sound, video and the face in a picture.

Everything here is numpy; nothing knows a model. Whatever a user can get wrong with a file is a
`UsageError` whose message starts with the file's path.
"""
