"""The slugs of the demo's Datanets, all of them Olivia's, and of its models, all of them Devi's."""

LICENCES, TUMOURS, FINANCIALS, DIGITS = (
    "open-source-licences",
    "breast-tumours",
    "company-financials",
    "handwritten-digits",
)
MODELS = {
    "chat": "licence-chat",
    "tabular": "tumour-check",
    "financial": "investment-estimate",
    "image": "digit-reader",
}
NEIGHBOURS = "digit-neighbours"
EMBEDDINGS = "text-embeddings"  # of no Datanet
