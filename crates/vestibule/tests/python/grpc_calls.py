"""A gRPC service and its client, written with grpcio and nothing else (messages are bare bytes).

`serve` runs the service on the port that PORT names. `call TLS_TARGET CERTIFICATE CLEAR_TARGET` calls it through a
load balancer in every way that gRPC has, and prints what came of each as JSON.
"""

import json
import os
import sys
import time
from concurrent import futures

import grpc

SERVICE = "test.Echo"
NAME = "api.internal.example.com"
# Longer than any call here takes.
PATIENCE = 30


def serve():
    def unary(request, context):
        context.set_trailing_metadata((("x-trailer", "behind"), ("x-bytes-bin", b"\x00\xff")))
        return request

    def fail(request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100% gone")

    def many(request, context):
        for number in range(int(request)):
            yield str(number).encode()

    def gather(requests, context):
        return str(sum(len(request) for request in requests)).encode()

    def both(requests, context):
        for request in requests:
            yield request.upper()

    def slow(request, context):
        while context.is_active():
            time.sleep(0.01)
        return b""

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Many": grpc.unary_stream_rpc_method_handler(many),
        "Gather": grpc.stream_unary_rpc_method_handler(gather),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    server.start()
    server.wait_for_termination()


def pieces(received, sent):
    """Requests of a stream, each made only when the answer to the one before is there."""
    for number in range(20):
        while len(received) < number:
            time.sleep(0.001)
        sent.append(f"piece {number}".encode())
        yield sent[-1]


def status_of(call):
    try:
        call()
        return "OK", ""
    except grpc.RpcError as error:
        return error.code().name, error.details()


def calls(channel):
    path = lambda method: f"/{SERVICE}/{method}"
    unary = channel.unary_unary(path("Unary"))
    large = os.urandom(1_000_000)
    answer, call = unary.with_call(large, timeout=PATIENCE)
    trailers = dict(call.trailing_metadata())
    received, sent = [], []
    for answer_piece in channel.stream_stream(path("Both"))(pieces(received, sent), timeout=PATIENCE):
        received.append(answer_piece)
    fast = [unary.future(str(number).encode(), timeout=PATIENCE) for number in range(100)]
    return {
        "large": answer == large,
        "trailer": trailers.get("x-trailer") == "behind" and trailers.get("x-bytes-bin") == b"\x00\xff",
        "many": [int(item) for item in channel.unary_stream(path("Many"))(b"500", timeout=PATIENCE)] == list(range(500)),
        "gather": channel.stream_unary(path("Gather"))(iter([b"x" * 10_000] * 100), timeout=PATIENCE) == b"1000000",
        "both": received == [piece.upper() for piece in sent] and len(received) == 20,
        "at once": [call.result() for call in fast] == [str(number).encode() for number in range(100)],
        "error": status_of(lambda: channel.unary_unary(path("Fail"))(b"", timeout=PATIENCE))
        == ("NOT_FOUND", "no such thing: 100% gone"),
        "unknown method": status_of(lambda: channel.unary_unary(path("None"))(b"", timeout=PATIENCE))[0] == "UNIMPLEMENTED",
        "deadline": status_of(lambda: channel.unary_unary(path("Slow"))(b"", timeout=0.3))[0] == "DEADLINE_EXCEEDED",
    }


def call(tls_target, certificate, clear_target):
    with open(certificate, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = (("grpc.ssl_target_name_override", NAME),)
    results = {}
    with grpc.secure_channel(tls_target, credentials, options) as channel:
        results["tls"] = calls(channel)
    with grpc.insecure_channel(clear_target) as channel:
        results["clear"] = calls(channel)
        closed = channel.unary_unary(f"/closed.{SERVICE}/Unary")
        results["refused"] = {"status": status_of(lambda: closed(b"", timeout=PATIENCE))[0] == "PERMISSION_DENIED"}
    print(json.dumps(results, indent=1))
    sys.exit(0 if all(all(group.values()) for group in results.values()) else 1)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(*sys.argv[2:])
