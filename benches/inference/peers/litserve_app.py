"""LitServe: so many workers, each a process with one thread of torch; batches of at most so many texts.

    python litserve_app.py MODEL PORT WORKERS BATCH
"""

import sys
from pathlib import Path

import litserve

from ner import Ner


class Api(litserve.LitAPI):
    def __init__(self, directory: Path, batch: int):
        # Half of the time a text takes: longer waiting costs more than the company is worth.
        super().__init__(max_batch_size=batch, batch_timeout=0.005)
        self.directory, self.batched = directory, batch > 1

    def setup(self, device):
        self.ner = Ner(self.directory, threads=1)

    def decode_request(self, request):
        return request["inputs"]

    def batch(self, inputs):
        return inputs

    def predict(self, texts):
        return self.ner(texts) if self.batched else self.ner([texts])[0]

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    directory, port, workers, batch = sys.argv[1:]
    server = litserve.LitServer(Api(Path(directory), int(batch)), accelerator="cpu", workers_per_device=int(workers))
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")
