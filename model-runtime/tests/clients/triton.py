#!/usr/bin/env python3
"""Talks to a running model-runtime through NVIDIA's own client for Triton, as it comes from PyPI: triton.py HOST:PORT CHECK...

Each check is a function below. The first one that fails ends the program with its traceback; the tests of model-runtime run it against real models
(tests/server/open_inference.rs).
"""

from __future__ import annotations

import json
import struct
import sys
import zlib

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

PENGUINS = np.array([[39.1, 18.7, 181, 3750], [46.5, 17.9, 192, 3500], [50.0, 16.3, 230, 5700]], dtype=np.float32)
ISLANDS = np.array([[2], [1], [0]], dtype=np.int64)
TEXTS = ["My name is Zoë Müller and I live in Berlin.", "", "I love this, what a wonderful day!"]


def tensor(name: str, values: np.ndarray, binary: bool = True) -> InferInput:
    datatype = {"f": "FP32", "i": "INT64", "O": "BYTES"}[values.dtype.kind]
    made = InferInput(name, list(values.shape), datatype)
    return made.set_data_from_numpy(values, binary_data=binary)


def texts(values: list[str], binary: bool = True) -> list[InferInput]:
    return [tensor("text", np.array([value.encode() for value in values], dtype=np.object_), binary)]


def penguins(binary: bool = True, rows: int = 3) -> list[InferInput]:
    return [tensor("measurements", PENGUINS[:rows], binary), tensor("island", ISLANDS[:rows], binary)]


def refusal(call, status: int, *words: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == str(status), f"{error.status()}: {error}"
        assert all(word in error.message() for word in words), error.message()
    else:
        raise AssertionError(f"was not refused with {status}")


def server(client: InferenceServerClient, model: str) -> None:
    """Who the server is, alive and ready, and which model it has."""
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    about = client.get_server_metadata()
    assert about["name"] == "model-runtime" and "binary_tensor_data" in about["extensions"], about
    metadata = client.get_model_metadata(model)
    (version,) = metadata["versions"]
    assert metadata == client.get_model_metadata(model, version) and metadata["platform"] == "pytorch_libtorch", metadata
    assert client.is_model_ready(model, version) and not client.is_model_ready(model, "none") and not client.is_model_ready("none")
    (listed,) = client.get_model_repository_index()
    assert listed == {"name": model, "version": version, "state": "READY", "reason": ""}, listed
    refusal(lambda: client.get_model_metadata("none"), 404, f"`{model}`", "`none`")
    refusal(lambda: client.get_model_metadata(model, "none"), 404, version)
    refusal(lambda: client.load_model(model), 501, "--model")
    refusal(lambda: client.unload_model(model), 501, "--model")
    refusal(lambda: client.get_model_config(model), 404, "no such path")


def tensors(client: InferenceServerClient, model: str) -> None:
    """Several inputs and outputs, in JSON and in binary, all outputs or some."""
    metadata = client.get_model_metadata(model)
    assert metadata["inputs"] == [
        {"name": "measurements", "datatype": "FP32", "shape": [-1, 4]}, {"name": "island", "datatype": "INT64", "shape": [-1, 1]},
    ], metadata
    outputs = [InferRequestedOutput(name, binary_data=binary) for name, binary in (("species", False), ("probabilities", True))]
    answers = [
        client.infer(model, penguins(binary), outputs=asked, request_id="the seventh")
        for binary in (True, False)
        for asked in (None, outputs)
    ]
    for answer in answers:
        response = answer.get_response()
        assert (response["model_name"], response["model_version"], response["id"]) == (model, "1", "the seventh"), response
        probabilities, species = answer.as_numpy("probabilities"), answer.as_numpy("species")
        assert (probabilities.dtype, probabilities.shape, species.dtype) == (np.float32, (3, 3), np.int64)
        assert species.flatten().tolist() == [0, 1, 2] == probabilities.argmax(1).tolist(), probabilities
        assert np.abs(probabilities - answers[0].as_numpy("probabilities")).max() < 1e-6
    some = client.infer(model, penguins(), outputs=[InferRequestedOutput("species", binary_data=False)])
    assert some.as_numpy("probabilities") is None and some.get_output("species")["data"] == [0, 1, 2]
    alone = client.infer(model, penguins(rows=1)).as_numpy("probabilities")
    assert np.abs(alone - answers[0].as_numpy("probabilities")[:1]).max() < 1e-4
    classes = client.infer(model, penguins(), outputs=[InferRequestedOutput("probabilities", class_count=2)]).as_numpy("probabilities")
    assert classes.shape == (3, 2) and [row[0].decode().split(":")[1] for row in classes] == ["0", "1", "2"], classes


def compression(client: InferenceServerClient, model: str) -> None:
    """Compressed requests; an answer need not be."""
    for algorithm in ("gzip", "deflate"):
        answer = client.infer(model, penguins(), request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
        assert answer.as_numpy("species").flatten().tolist() == [0, 1, 2]


def many_at_once(client: InferenceServerClient, model: str) -> None:
    """Requests of other clients share a forward, and each gets its own rows."""
    waiting = [(row, client.async_infer(model, [tensor("measurements", PENGUINS[row : row + 1]), tensor("island", ISLANDS[row : row + 1])]))
               for row in [0, 1, 2] * 20]
    for row, request in waiting:
        assert request.get_result(timeout=60).as_numpy("species").tolist() == [[row]]


def body_of_ones_own(client: InferenceServerClient, model: str) -> None:
    """The client's own writer and reader of bodies, which users call to send them by other means."""
    body, json_length = InferenceServerClient.generate_request_body(penguins(), request_id="x")
    response = client._post(f"v2/models/{model}/infer", body, {"Inference-Header-Content-Length": json_length}, None)
    length = int(response.get("Inference-Header-Content-Length"))
    answer = InferResult.from_response_body(bytes(response.read()), header_length=length)
    assert answer.as_numpy("species").flatten().tolist() == [0, 1, 2]


def refusals(client: InferenceServerClient, model: str) -> None:
    """What cannot be answered is refused with what is wrong."""
    measurements, island = penguins()
    refusal(lambda: client.infer("none", penguins()), 404, f"`{model}`")
    refusal(lambda: client.infer(model, [measurements]), 422, "input `island` is missing", "measurements, island")
    refusal(lambda: client.infer(model, [measurements, island, tensor("wing", ISLANDS)]), 422, "no input `wing`")
    refusal(lambda: client.infer(model, [measurements, measurements, island]), 422, "comes twice")
    refusal(lambda: client.infer(model, [measurements, tensor("island", ISLANDS[:2])]), 422, "3 and 2 rows")
    refusal(lambda: client.infer(model, [measurements, tensor("island", ISLANDS.astype(np.float32))]), 422, "INT64, not FP32")
    refusal(lambda: client.infer(model, [tensor("measurements", PENGUINS[:, :3].copy()), island]), 422, "[4], not [3]")
    refusal(lambda: client.infer(model, penguins(), outputs=[InferRequestedOutput("genus")]), 422, "`genus`", "probabilities, species")
    refusal(lambda: client.infer(model, penguins(), parameters={"top_k": 1}), 422, "`parameters.top_k`")
    refusal(lambda: client.infer(model, penguins(), sequence_id=7), 422, "sequence")
    refusal(lambda: client.infer(model, [measurements, InferInput("island", [3, 1], "INT64").set_shared_memory("r", 24)]), 422, "shared memory")
    nothing = [tensor("measurements", PENGUINS[:0]), tensor("island", ISLANDS[:0])]
    refusal(lambda: client.infer(model, nothing), 422, "no rows")
    not_numbers = [tensor("measurements", np.full((1, 4), np.nan, dtype=np.float32)), tensor("island", ISLANDS[:1])]
    assert np.isnan(client.infer(model, not_numbers).as_numpy("probabilities")).all()
    in_json = [InferRequestedOutput("probabilities", binary_data=False)]
    refusal(lambda: client.infer(model, not_numbers, outputs=in_json), 422, "NaN", "binary")
    tensors(client, model)  # and it is as well as before


def timeouts(client: InferenceServerClient, model: str) -> None:
    """Against a server that waits long for company."""
    refusal(lambda: client.infer(model, penguins(), timeout=50_000), 503, "50ms")
    refusal(lambda: client.infer(model, penguins(), headers={"x-request-timeout-ms": "60"}), 503, "60ms")
    refusal(lambda: client.infer(model, penguins(), headers={"x-request-timeout-ms": "soon"}), 400, "x-request-timeout-ms")


def entities(client: InferenceServerClient, model: str) -> None:
    """Token classification: a JSON list for each text; or logits for those who tokenise themselves."""
    for binary in (True, False):
        found = client.infer(model, texts(TEXTS, binary), parameters={"aggregation_strategy": "first"}).as_numpy("entities")
        lists = [json.loads(text) for text in found]
        words = [TEXTS[0][entity["start"] : entity["end"]] for entity in lists[0]]
        assert found.shape == (3,) and "Zoë" in words and "Müller" in words and lists[1] == [], lists
    unaggregated = client.infer(model, texts(TEXTS[:1]), parameters={"aggregation_strategy": "none"}).as_numpy("entities")
    assert "index" in json.loads(unaggregated[0])[0]
    token_ids(client, model, "logits", 3)
    refusal(lambda: client.infer(model, texts(TEXTS), parameters={"aggregation_strategy": "best"}), 422, "\"best\"")
    not_text = [tensor("text", np.array([b"good", b"\xff"], dtype=np.object_))]
    refusal(lambda: client.infer(model, not_text), 422, "element 1 of `text` is not UTF-8")
    refusal(lambda: client.infer(model, texts([])), 422, "empty")


def labels(client: InferenceServerClient, model: str) -> None:
    """Text classification: labels and scores, the best or as many as are asked for."""
    best = client.infer(model, texts(["What a wonderful day!", "This is terrible."]))
    assert best.as_numpy("label").tolist() == [[b"positive"], [b"negative"]] and (best.as_numpy("score") > 0.5).all()
    both = client.infer(model, texts(["What a wonderful day!"], binary=False), parameters={"top_k": 2})
    assert both.as_numpy("label").tolist() == [[b"positive", b"negative"]]
    assert abs(both.as_numpy("score").sum() - 1) < 1e-5 and both.as_numpy("score").dtype == np.float32
    token_ids(client, model, "logits", 2)


def vectors(client: InferenceServerClient, model: str) -> None:
    """Feature extraction: a vector for each text, pooled as the model says or as asked."""
    (embedding,) = [output for output in client.get_model_metadata(model)["outputs"] if output["name"] == "embedding"]
    assert embedding["shape"] == [-1, 384], embedding
    found = client.infer(model, texts(TEXTS)).as_numpy("embedding")
    assert found.shape == (3, 384) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    first = client.infer(model, texts(TEXTS), parameters={"pooling": "cls", "normalize": False}).as_numpy("embedding")
    assert not np.allclose(found, first)
    refusal(lambda: client.infer(model, texts(TEXTS), parameters={"pooling": "none"}), 422, "pooling")
    one = client.infer(model, texts(["good day"]), parameters={"pooling": "none", "normalize": False}).as_numpy("embedding")
    assert one.shape[0] == 1 and one.shape[2] == 384
    token_ids(client, model, "last_hidden_state", 3)


def images(client: InferenceServerClient, model: str) -> None:
    """Image classification: labels and scores for files; or logits for pixels that the client has prepared."""
    (pixels,) = [given for given in client.get_model_metadata(model)["inputs"] if given["name"] == "pixel_values"]
    files = np.array([png(64, 64, 200), png(300, 20, 10)], dtype=np.object_)
    five = client.infer(model, [tensor("image", files)])
    labels, scores = five.as_numpy("label"), five.as_numpy("score")
    assert labels.shape == scores.shape == (2, 5) and (np.diff(scores) <= 0).all() and all(labels.flatten()), scores
    two = client.infer(model, [tensor("image", files[:1])], parameters={"top_k": 2})
    assert two.as_numpy("label").tolist() == [labels[0, :2].tolist()] and np.abs(two.as_numpy("score") - scores[0, :2]).max() < 1e-4
    black = np.zeros((2, *pixels["shape"][1:]), dtype=np.float32)
    logits = client.infer(model, [tensor("pixel_values", black)]).as_numpy("logits")
    assert logits.ndim == 2 and np.abs(logits[0] - logits[1]).max() < 1e-4
    top = client.infer(model, [tensor("pixel_values", black)], outputs=[InferRequestedOutput("logits", class_count=1)]).as_numpy("logits")
    assert int(top[0, 0].decode().split(":")[1]) == logits[0].argmax() and top[0, 0].count(b":") >= 2, top
    damaged = [tensor("image", np.array([files[0], b"no image"], dtype=np.object_))]
    refusal(lambda: client.infer(model, damaged), 422, "element 1 of `image`")
    refusal(lambda: client.infer(model, [tensor("pixel_values", black[:, :, 1:].copy())]), 422, "`pixel_values` has the shape")
    refusal(lambda: client.infer(model, texts(TEXTS)), 422, "`image`")


def png(width: int, height: int, shade: int) -> bytes:
    """A grey image, written by hand so that the client needs no other package."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([shade]) * (3 * width) for _ in range(height))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def token_ids(client: InferenceServerClient, model: str, output: str, dimensions: int) -> None:
    ids, mask = np.array([[101, 2204, 102, 0], [101, 2204, 2154, 102]]), np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    both = client.infer(model, [tensor("input_ids", ids), tensor("attention_mask", mask)]).as_numpy(output)
    alone = client.infer(model, [tensor("input_ids", ids[:1, :3].copy())]).as_numpy(output)
    assert both.dtype == np.float32 and both.ndim == dimensions and both.shape[0] == 2
    own = both[0, :3] if dimensions == 3 else both[0]
    assert np.abs(own - alone[0]).max() < 1e-4, "padding changes the result"
    for wrong in (-1, 10**9):
        refusal(lambda: client.infer(model, [tensor("input_ids", np.array([[101, wrong, 102]]))]), 422, f"holds {wrong}")
    refusal(lambda: client.infer(model, [tensor("input_ids", np.full((1, 600), 101))]), 422, "at most 512")


def main() -> int:
    address, *checks = sys.argv[1:]
    with InferenceServerClient(address, concurrency=4, network_timeout=120, connection_timeout=120) as client:
        (model,) = [model["name"] for model in client.get_model_repository_index()]
        for check in checks:
            globals()[check](client, model)
            print(f"{check}: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
