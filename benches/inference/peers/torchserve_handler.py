"""TorchServe: the handler that goes into the model archive; a batch comes as a list, one thread of torch a worker."""

from pathlib import Path

from ner import Ner
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    def initialize(self, context):
        self.ner = Ner(Path(context.system_properties["model_dir"]), threads=1)
        self.initialized = True

    def handle(self, data, context):
        return self.ner([row["body"]["inputs"] for row in data])
