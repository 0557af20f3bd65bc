"""How files become chunks, packs and manifests, and how they are read back verified.

Mechanisms alone: which chunk is stored, which pack is pinned and when a version exists is the
coordinator's to decide.

::

    tree      a folder as a list of files, and files that must not change while they are read
    cut       a file as pieces: at tensor boundaries, or where its content says
    pack      a large immutable file of chunks with a trailer
    manifest  a version's files as lists of chunks
    read      verified bytes, out of packs
"""
