"""Language modelling: text in segments, cross entropy of the next token, perplexity, state carried over batches."""

from haq.tasks.language_modelling.task import LanguageModellingTask, Perplexity

__all__ = ["LanguageModellingTask", "Perplexity"]
