"""The official clients know every field of their APIs: none of them is unknown here."""

from __future__ import annotations

import typing
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from loqal.server.anthropic import protocol as claude
from loqal.server.ollama import protocol as llama
from loqal.server.openai_responses import protocol as openai

anthropic_types = pytest.importorskip("anthropic.types")
ollama_types = pytest.importorskip("ollama._types")
openai_types = pytest.importorskip("openai.types.responses")
shared_params = pytest.importorskip("openai.types.shared_params")


def _keys(official: Any) -> set[str]:
    if isinstance(official, type) and issubclass(official, BaseModel):
        return {(field.alias or name).rstrip("_") for name, field in official.model_fields.items()}
    return set(official.__required_keys__ | official.__optional_keys__)


def _ours(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


PAIRS = [
    (claude.MessagesBody, anthropic_types.message_create_params.MessageCreateParamsStreaming),
    (claude.CountTokensBody, anthropic_types.MessageCountTokensParams),
    (claude.TextBlock, anthropic_types.TextBlockParam),
    (claude.ImageBlock, anthropic_types.ImageBlockParam),
    (claude.Base64Image, anthropic_types.Base64ImageSourceParam),
    (claude.UrlImage, anthropic_types.URLImageSourceParam),
    (claude.ThinkingBlock, anthropic_types.ThinkingBlockParam),
    (claude.ToolUseBlock, anthropic_types.ToolUseBlockParam),
    (claude.ToolResultBlock, anthropic_types.ToolResultBlockParam),
    (claude.Tool, anthropic_types.ToolParam),
    (claude.ChooseFreely, anthropic_types.ToolChoiceAutoParam),
    (claude.ChooseAny, anthropic_types.ToolChoiceAnyParam),
    (claude.ChooseTool, anthropic_types.ToolChoiceToolParam),
    (claude.ChooseNone, anthropic_types.ToolChoiceNoneParam),
    (claude.ThinkingEnabled, anthropic_types.ThinkingConfigEnabledParam),
    (claude.ThinkingAdaptive, anthropic_types.ThinkingConfigAdaptiveParam),
    (claude.ThinkingDisabled, anthropic_types.ThinkingConfigDisabledParam),
    (claude.OutputConfig, anthropic_types.OutputConfigParam),
    (claude.JsonFormat, anthropic_types.JSONOutputFormatParam),
    (claude.Metadata, anthropic_types.MetadataParam),
    (llama.OllamaChatBody, ollama_types.ChatRequest),
    (llama.OllamaGenerateBody, ollama_types.GenerateRequest),
    (llama.OllamaEmbedBody, ollama_types.EmbedRequest),
    (llama.OllamaEmbeddingsBody, ollama_types.EmbeddingsRequest),
    (llama.OllamaShowBody, ollama_types.ShowRequest),
    (llama.Options, ollama_types.Options),
    (llama.AssistantMessage, ollama_types.Message),
    (llama.ToolMessage, ollama_types.Message),
    (llama.Tool, ollama_types.Tool),
    (llama.Function, ollama_types.Tool.Function),
    (openai.ResponseBody, openai_types.response_create_params.ResponseCreateParamsStreaming),
    (openai.InputTokensBody, openai_types.InputTokenCountParams),
    (openai.InputText, openai_types.ResponseInputTextParam),
    (openai.InputImage, openai_types.ResponseInputImageParam),
    (openai.OutputText, openai_types.ResponseOutputTextParam),
    (openai.OutputRefusal, openai_types.ResponseOutputRefusalParam),
    (openai.MessageItem, openai_types.EasyInputMessageParam),
    (openai.MessageItem, openai_types.response_input_item_param.Message),
    (openai.MessageItem, openai_types.ResponseOutputMessageParam),
    (openai.ReasoningItem, openai_types.ResponseReasoningItemParam),
    (openai.FunctionCallItem, openai_types.ResponseFunctionToolCallParam),
    (openai.FunctionCallOutputItem, openai_types.response_input_item_param.FunctionCallOutput),
    (openai.ItemReference, openai_types.response_input_item_param.ItemReference),
    (openai.FunctionTool, openai_types.FunctionToolParam),
    (openai.ChooseFunction, openai_types.ToolChoiceFunctionParam),
    (openai.ChooseAmong, openai_types.ToolChoiceAllowedParam),
    (openai.TextConfig, openai_types.ResponseTextConfigParam),
    (openai.SchemaFormat, openai_types.ResponseFormatTextJSONSchemaConfigParam),
    (openai.Reasoning, shared_params.Reasoning),
    (openai.StreamOptions, openai_types.response_create_params.StreamOptions),
]


@pytest.mark.parametrize(("model", "official"), PAIRS, ids=[f"{a.__name__}-{b.__name__}" for a, b in PAIRS])
def test_every_official_field_is_known(model: type[BaseModel], official: Any) -> None:
    assert _keys(official) <= _ours(model)


def test_every_official_block_is_known() -> None:
    known = {
        value
        for union in (claude.UserBlock, claude.AssistantBlock)
        for model in get_args(get_args(union)[0])
        for value in get_args(model.model_fields["type"].annotation)
    }
    official = {
        value
        for block in get_args(anthropic_types.ContentBlockParam)
        for value in get_args(typing.get_type_hints(block)["type"])
    }
    assert official <= known


def test_every_official_include_is_known() -> None:
    assert set(get_args(openai_types.ResponseIncludable)) <= set(get_args(openai.Include))
