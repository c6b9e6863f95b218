"""From files to a request and back: plans, compositions and their sources. No network, no tools, no output.

document      TOML files with errors that name the line or the key
manifest      finding and reading plans
composition   reading, making and writing back compositions
prepare       a composition and a manifest -> a composition with nothing left to default
validate      what a composition must hold before it is built or run
parameters    defaults of test parameters, and what cannot be handed to an instance
gojson        JSON text as Go writes it
archive       zip files that keep modes and links, and are not trusted
ignore        .testgroundignore
digest        the content of a directory as one hash
sources       the multipart body of a request (client)
receive       the same body, straight to disk (daemon)
"""
