"""The HTTP daemon: thin routes over the engine (client-daemon §1).

main      life of the daemon: lock, sync service, engine, web server, signals
lock      one daemon per home
server    uvicorn without its signal handling and its polling
gate      what is decided before a route is chosen: paths, methods, origin, token
app       the FastAPI application and its documents
exchange  one request and its answer: a body is read, chunks are sent
routes    the verbs on tasks and components
submit    /build and /run
"""
