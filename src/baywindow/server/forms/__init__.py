"""What requests may hold, as pydantic models in OpenAI's shapes.

Fields that OpenAI knows are taken; those that change the reply in a way the model cannot follow are refused by name (`refused`), never
ignored. Fields nobody knows are refused as OpenAI does, or passed on to an upstream, whose business they are.
"""
