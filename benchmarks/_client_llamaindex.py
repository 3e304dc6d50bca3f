"""LlamaIndex's OpenAI classes, unmodified: python _client_llamaindex.py BASE_URL MODEL EMBEDDER, in an environment of its own."""

import json
import sys

from llama_index.embeddings.openai_like import OpenAILikeEmbedding  # type: ignore[import-not-found]
from llama_index.llms.openai_like import OpenAILike  # type: ignore[import-not-found]

url, model, embedder = sys.argv[1:]
given = {"api_base": url, "api_key": "none", "is_chat_model": True, "max_retries": 0}
llm = OpenAILike(model=model, max_tokens=8, **given)
vectors = OpenAILikeEmbedding(model_name=embedder, api_base=url, api_key="none").get_text_embedding_batch(["a fence", "a ferry"])
try:
    OpenAILike(model="nobody", **given).complete("Say hello.")
    refused = ""
except Exception as error:
    refused = f"{getattr(error, 'status_code', '')} {getattr(error, 'code', '')}"
found = {
    "chat": str(llm.complete("Say hello.")),
    "stream": "".join(piece.delta or "" for piece in llm.stream_complete("Say hello.")),
    "vectors": len(vectors),
    "dim": len(vectors[0]),
    "refused": refused,
}
print(json.dumps(found))
