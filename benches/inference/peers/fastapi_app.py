"""FastAPI as it is usually written: a plain `def` endpoint, which FastAPI runs on its thread pool, one text at a time.

MODEL is the model directory; THREADS the threads of torch in each process (torch's own default when empty).
"""

import os
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from ner import Ner

app = FastAPI()
ner = Ner(Path(os.environ["MODEL"]), int(os.environ.get("THREADS") or 0))


class Request(BaseModel):
    inputs: str


@app.post("/predict")
def predict(request: Request) -> list[dict]:
    return ner([request.inputs])[0]
