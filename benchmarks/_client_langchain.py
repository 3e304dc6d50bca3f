"""LangChain's OpenAI classes, unmodified: python _client_langchain.py BASE_URL MODEL EMBEDDER, in an environment of its own."""

import json
import sys

from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # type: ignore[import-not-found]

url, model, embedder = sys.argv[1:]
chat = ChatOpenAI(base_url=url, model=model, api_key="none", max_tokens=8, max_retries=0)
# Without this it sends token ids of a tokenizer that it would fetch first.
vectors = OpenAIEmbeddings(base_url=url, model=embedder, api_key="none", check_embedding_ctx_length=False).embed_documents(
    ["a fence", "a ferry"]
)
try:
    ChatOpenAI(base_url=url, model="nobody", api_key="none", max_retries=0).invoke("Say hello.")
    refused = ""
except Exception as error:
    refused = f"{getattr(error, 'status_code', '')} {getattr(error, 'code', '')}"
found = {
    "chat": chat.invoke("Say hello.").content,
    "stream": "".join(piece.content for piece in chat.stream("Say hello.")),
    "vectors": len(vectors),
    "dim": len(vectors[0]),
    "refused": refused,
}
print(json.dumps(found))
