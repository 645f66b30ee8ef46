"""The Python program of `xds-proxyless.test.ts`, on grpcio (gRPC's C core). What it does: see xds-node.mjs."""

import json
import os
import sys
from concurrent import futures

import grpc

PATH = "/test.Echo/Unary"


def serve(port, name):
    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method != PATH:
                return None
            return grpc.unary_unary_rpc_method_handler(lambda request, _context: name.encode() + b" " + request)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=[Echo()], xds=True)
    server.add_secure_port(f"127.0.0.1:{port}", grpc.xds_server_credentials(grpc.insecure_server_credentials()))
    server.start()
    print(json.dumps({"ready": True}), flush=True)
    server.wait_for_termination()


def call(target):
    with grpc.secure_channel(target, grpc.xds_channel_credentials()) as channel:
        echo = channel.unary_unary(PATH)
        for line in sys.stdin:
            try:
                outcome = ["OK", echo(line.rstrip("\n").encode(), timeout=4).decode()]
            except grpc.RpcError as error:
                outcome = [error.code().name, error.details()]
            print(json.dumps(outcome), flush=True)


if sys.argv[1] == "serve":
    serve(*sys.argv[2:])
else:
    call(*sys.argv[2:])
os._exit(0)
